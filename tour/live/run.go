package live

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/tour"
)

// Options say what to run and with what.
type Options struct {
	Engine      *engine.Engine
	Exe         string // path of a kakuri: containers of E7 and E10 run it
	Experiments []tour.Experiment
	// Each, when not nil, gets every result as soon as it is there. An error ends the run.
	Each func(tour.Result) error
}

// Place is where the experiments of o run.
func (o Options) Place() tour.Place {
	host := o.Engine.Host()
	_, err := exec.LookPath("kakuri")
	return tour.Place{UID: host.UID, Privileged: host.Privileged(), NoCommand: err != nil}
}

// Run runs the experiments, one after the other. What cannot be observed is in the
// results; the error is ctx's, or that of Each.
func Run(ctx context.Context, o Options) ([]tour.Result, error) {
	ctx, stop := context.WithCancel(ctx)
	l := &lab{Options: o, ctx: ctx}
	defer l.close()
	defer stop()
	var list []tour.Result
	for _, e := range o.Experiments {
		r := tour.Result{Experiment: e}
		r.Reading, r.Err = l.measure(e.ID)
		if ctx.Err() != nil {
			return list, context.Cause(ctx)
		}
		list = append(list, r)
		if o.Each != nil {
			if err := o.Each(r); err != nil {
				return list, err
			}
		}
	}
	return list, nil
}

// A lab is the containers of one run. Several experiments look at the same one.
type lab struct {
	Options
	ctx           context.Context // the life of all of its containers
	shell, nested shared
	cells         []*cell
}

// A shared container is started for the first experiment that needs it.
type shared struct {
	cell *cell
	err  error
}

// measure does one experiment.
func (l *lab) measure(id string) (tour.Reading, error) {
	switch id {
	case "E1":
		return reading(l.ordinary())
	case "E2":
		return reading(l.first())
	case "E3":
		return reading(l.another())
	case "E4":
		return reading(l.lists())
	case "E5":
		return reading(l.numbers())
	case "E6":
		return reading(l.same())
	case "E7":
		return reading(l.sight())
	case "E8":
		return reading(l.users())
	case "E9":
		return reading(l.files())
	case "E10":
		return reading(l.ports())
	case "E11":
		return reading(l.others())
	case "E12":
		return reading(l.kernel())
	case "E14":
		return reading(l.plans())
	case "E15":
		return reading(l.tree())
	}
	return nil, fmt.Errorf("there is no experiment %s", id)
}

// reading leaves no half of a reading beside an error.
func reading[R any, P interface {
	*R
	tour.Reading
}](r P, err error) (tour.Reading, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// start starts a container that ends with the run, at the latest.
func (l *lab) start(r engine.Config) (*cell, error) {
	c, err := start(l.ctx, l.Engine, r)
	if err != nil {
		return nil, err
	}
	l.cells = append(l.cells, c)
	return c, nil
}

// share returns the container of s, prepared by a script, for the experiment id.
func (l *lab) share(s *shared, id string, r engine.Config, script string) (*cell, error) {
	if s.cell != nil || s.err != nil {
		return s.cell, s.err
	}
	c, err := l.start(r)
	if err == nil {
		if _, err = c.ask(l.ctx, script); err != nil {
			c.end()
		}
	}
	if err != nil {
		s.err = &tour.StartError{First: id, Err: err}
		return nil, s.err
	}
	s.cell = c
	return c, nil
}

// close ends all containers, side by side: an end is mostly the kernel's time.
func (l *lab) close() {
	done := make(chan struct{})
	for _, c := range l.cells {
		go func() {
			c.end()
			done <- struct{}{}
		}()
	}
	for range l.cells {
		<-done
	}
}

// exe returns the mount that shows kakuri itself to a container.
// Of the host's own directories each may have something of that name, or be one where an
// ordinary user can make nothing; /tmp is new.
func (l *lab) exe() (engine.Mount, error) {
	if l.Exe == "" {
		return engine.Mount{}, errors.New("the path of kakuri's own program is not known")
	}
	return engine.Mount{
		Type: "bind", Source: l.Exe, Dest: "/tmp/kakuri", Options: []string{"rprivate", "rro"}, MustHave: true,
		Flag: "-v " + l.Exe + ":/tmp/kakuri:ro",
	}, nil
}
