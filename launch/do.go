package launch

import (
	"errors"

	"github.com/kakuri/kakuri/plan"
)

// Do does steps of the runtime's side that are raw calls, for what no one container owns. Where one
// fails, those before it are undone, and the error is an [*Error].
func Do(p plan.Plan) error {
	r := &run{plan: p, ours: newTable(), sock: -1}
	defer r.closeRegisters()
	for i, s := range p.Steps {
		if err := r.do(i, r.ours.asm.Lower(s.Op)); err != nil {
			errs := []error{err}
			for _, op := range p.Inverse(i) {
				errs = append(errs, r.do(i, r.ours.asm.Lower(op)))
			}
			return errors.Join(errs...)
		}
	}
	return nil
}

// do runs the rows of step i in this process.
func (r *run) do(i int, rows []plan.Row) error {
	r.ours.rows = r.ours.rows[:0]
	if err := r.ours.add(i, rows); err != nil {
		return r.fail(i, "", err)
	}
	at, errno := runHere(r.ours)
	if errno != 0 {
		r.closeTemps()
		return r.fail(i, rows[at].Call.String(), errno)
	}
	return nil
}
