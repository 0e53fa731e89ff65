package cli

import (
	"context"

	"github.com/kakuri/kakuri/engine"
	"github.com/kakuri/kakuri/image"
)

// openEngine opens the engine of this machine, or of this user, whose warnings are told.
func openEngine(io IO) (*engine.Engine, error) { return engine.Open(engine.Options{Warn: io.warn}) }

// lookEngine opens it for who asks it for something on the way: nothing is written, and no warning told.
func lookEngine() (*engine.Engine, error) { return engine.Open(engine.Options{Look: true}) }

// openImages opens the images of the engine.
func openImages(io IO) (*image.Store, error) {
	e, err := openEngine(io)
	if err != nil {
		return nil, err
	}
	return e.Images()
}

// inWorld runs the command again where an ordinary user's networks are, for one that reads them: of the container ref, or with an empty one of all.
// Where it did, done is true, and the error its exit code.
func inWorld(ctx context.Context, e *engine.Engine, ref string) (done bool, err error) {
	code, done, err := e.AgainInWorld(ctx, ref)
	if err == nil && code != 0 {
		err = exitCode(code)
	}
	return done, err
}
