package cli

import (
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newPull(io IO) *cobra.Command {
	c := &cobra.Command{
		Use: "pull [OPTIONS] NAME[:TAG|@DIGEST]", Short: "Fetch an image from a registry", Args: arguments(1, 1), ValidArgsFunction: names(storedNames, 1),
		Example: "  kakuri pull debian:bookworm\n  kakuri pull --platform linux/arm64 localhost:5000/app",
	}
	t := newTransfer(c.Flags(), "fetch")
	platformFlag(c.Flags(), &t.platform, "fetch the image for `OS/ARCH[/VARIANT]` (default: this machine's)")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := t.check()
		if err != nil {
			return err
		}
		e, err := openEngine(io)
		if err != nil {
			return err
		}
		r, err := image.ParseReference(args[0])
		if err != nil {
			return err
		}
		progress, done := t.show(io, r)
		o := image.PullOptions{Platform: p, Progress: progress}
		if t.all {
			var store *image.Store
			if store, err = e.Images(); err == nil {
				_, err = store.PullTags(c.Context(), args[0], o)
			}
		} else {
			r = r.Tagged()
			_, err = e.Pull(c.Context(), args[0], o)
		}
		done()
		if err == nil {
			fmt.Fprintln(io.Out, r)
		}
		return err
	}
	return c
}

func newPush(io IO) *cobra.Command {
	c := &cobra.Command{Use: "push [OPTIONS] NAME[:TAG]", Short: "Send an image to a registry", Args: arguments(1, 1), ValidArgsFunction: names(storedNames, 1)}
	t := newTransfer(c.Flags(), "send")
	c.Flags().StringVar(&t.platform, "platform", "", "send the image for `OS/ARCH[/VARIANT]` alone")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := t.check()
		if err != nil {
			return err
		}
		store, err := openImages(io)
		if err != nil {
			return err
		}
		r, err := image.ParseReference(args[0])
		if err != nil {
			return err
		}
		progress, done := t.show(io, r)
		o := image.PushOptions{Platform: p, Progress: progress}
		if t.all {
			err = store.PushTags(c.Context(), args[0], o)
		} else {
			r = r.Tagged()
			_, err = store.Push(c.Context(), args[0], o)
		}
		done()
		if err == nil && t.quiet {
			fmt.Fprintln(io.Out, r)
		}
		return err
	}
	return c
}

// A transfer is what pull and push have in common: their flags, and how they tell what goes on.
type transfer struct {
	all, quiet bool
	platform   string
	trusted    func() error
}

func newTransfer(s *pflag.FlagSet, verb string) *transfer {
	t := &transfer{}
	s.BoolVarP(&t.all, "all-tags", "a", false, verb+" all tags of the repository")
	s.BoolVarP(&t.quiet, "quiet", "q", false, "do not print how it goes on")
	t.trusted = contentTrust(s)
	return t
}

func (t *transfer) check() (image.Platform, error) {
	p, err := parsePlatform(t.platform)
	if err == nil {
		err = t.trusted()
	}
	return p, err
}

// show begins to show the transfer of r, until done is called. A name without a tag means one, which it tells.
func (t *transfer) show(io IO, r image.Reference) (progress image.Progress, done func()) {
	if t.quiet {
		return nil, func() {}
	}
	if tagged := r.Tagged(); !t.all && tagged != r {
		fmt.Fprintln(io.Out, "Using default tag:", tagged.Tag)
	}
	shown := showProgress(io.Out)
	return shown.tell, shown.done
}

// contentTrust takes Docker's flag. Who asks for signatures by Notary is not to believe that anything was verified.
func contentTrust(s *pflag.FlagSet) (check func() error) {
	off := s.Bool("disable-content-trust", true, "taken, and without effect")
	s.MarkHidden("disable-content-trust")
	return func() error {
		if !*off {
			return errors.New("--disable-content-trust=false: signatures of Docker Content Trust (Notary) are not verified here")
		}
		return nil
	}
}
