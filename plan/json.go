package plan

import (
	"encoding/json"
	"fmt"
)

// stepJSON is a step in JSON. Operation and check are objects of their own
// fields beside the name that tells which they are.
type stepJSON struct {
	N         int             `json:"n"`
	Side      string          `json:"side"`
	Operation string          `json:"operation"`
	Args      json.RawMessage `json:"args"`
	Text      string          `json:"text"`
	Because   string          `json:"because"`
	Field     string          `json:"field,omitempty"`
	Reason    string          `json:"reason,omitempty"`
	Check     *taggedJSON     `json:"check,omitempty"`
	Undo      *taggedJSON     `json:"undo,omitempty"`
}

type taggedJSON struct {
	Kind string          `json:"kind"`
	Args json.RawMessage `json:"args"`
}

type planJSON struct {
	Steps    []stepJSON `json:"steps"`
	Warnings []string   `json:"warnings,omitempty"`
}

// MarshalJSON writes the plan with each step's number, text and arguments.
func (p Plan) MarshalJSON() ([]byte, error) {
	out := planJSON{Steps: []stepJSON{}, Warnings: p.Warnings}
	for i, s := range p.Steps {
		args, err := json.Marshal(s.Op)
		if err != nil {
			return nil, err
		}
		j := stepJSON{
			N: i + 1, Side: s.Side.String(), Operation: s.Op.Name(), Args: args, Text: s.Op.String(),
			Because: s.Cause.String(), Field: s.Cause.Field, Reason: s.Cause.Reason,
		}
		if s.Check != nil {
			if j.Check, err = tag(s.Check.Kind(), s.Check); err != nil {
				return nil, err
			}
		}
		if s.Undo != nil {
			if j.Undo, err = tag(s.Undo.Name(), s.Undo); err != nil {
				return nil, err
			}
		}
		out.Steps = append(out.Steps, j)
	}
	return json.Marshal(out)
}

func tag(kind string, v any) (*taggedJSON, error) {
	args, err := json.Marshal(v)
	return &taggedJSON{Kind: kind, Args: args}, err
}

// UnmarshalJSON reads what [Plan.MarshalJSON] wrote. Unknown operations and
// checks are an error that names them.
func (p *Plan) UnmarshalJSON(data []byte) error {
	var in planJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*p = Plan{Warnings: in.Warnings}
	for _, j := range in.Steps {
		op, err := decodeOp(j.Operation, j.Args)
		if err != nil {
			return fmt.Errorf("step %d: %w", j.N, err)
		}
		s := Step{Op: op, Cause: Cause{Field: j.Field, Reason: j.Reason}}
		if j.Side == Container.String() {
			s.Side = Container
		}
		if j.Check != nil {
			if s.Check, err = decodeCheck(j.Check); err != nil {
				return fmt.Errorf("step %d: %w", j.N, err)
			}
		}
		if j.Undo != nil {
			if s.Undo, err = decodeOp(j.Undo.Kind, j.Undo.Args); err != nil {
				return fmt.Errorf("step %d: undo: %w", j.N, err)
			}
		}
		p.Steps = append(p.Steps, s)
	}
	return nil
}

func decodeOp(name string, args []byte) (Op, error) {
	for _, op := range Ops() {
		if op.Name() == name {
			return op, json.Unmarshal(args, op)
		}
	}
	return nil, fmt.Errorf("unknown operation %q", name)
}

func decodeCheck(j *taggedJSON) (Check, error) {
	for _, c := range checkValues() {
		if c.Kind() == j.Kind {
			return c, json.Unmarshal(j.Args, c)
		}
	}
	return nil, fmt.Errorf("unknown check %q", j.Kind)
}

// MarshalOp writes one operation with its name, as the undo of a step is written.
func MarshalOp(op Op) ([]byte, error) {
	t, err := tag(op.Name(), op)
	if err != nil {
		return nil, err
	}
	return json.Marshal(t)
}

// UnmarshalOp reads what [MarshalOp] wrote.
func UnmarshalOp(data []byte) (Op, error) {
	var t taggedJSON
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, err
	}
	return decodeOp(t.Kind, t.Args)
}
