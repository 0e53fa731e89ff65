package cli

import (
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newPull(io IO) *cobra.Command {
	var all, quiet bool
	var platform string
	c := &cobra.Command{
		Use: "pull [OPTIONS] NAME[:TAG|@DIGEST]", Short: "Fetch an image from a registry", Args: arguments(1, 1), ValidArgsFunction: names(storedNames, 1),
		Example: "  kakuri pull debian:bookworm\n  kakuri pull --platform linux/arm64 localhost:5000/app",
	}
	s := c.Flags()
	s.BoolVarP(&all, "all-tags", "a", false, "fetch all tags of the repository")
	s.StringVar(&platform, "platform", "", "fetch the image for `OS/ARCH[/VARIANT]` (default: this machine's)")
	s.BoolVarP(&quiet, "quiet", "q", false, "do not print how it goes on")
	trusted := contentTrust(s)
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := parsePlatform(platform)
		if err == nil {
			err = trusted()
		}
		if err != nil {
			return err
		}
		e, err := openEngine()
		if err != nil {
			return err
		}
		r, err := image.ParseReference(args[0])
		if err != nil {
			return err
		}
		o := image.PullOptions{Platform: p}
		done := func() {}
		if !quiet {
			sayDefaultTag(io, r, all)
			shown := showProgress(io.Out)
			o.Progress, done = shown.tell, shown.done
		}
		if all {
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

// sayDefaultTag tells which tag a name without one means.
func sayDefaultTag(io IO, r image.Reference, all bool) {
	if t := r.Tagged(); !all && t != r {
		fmt.Fprintln(io.Out, "Using default tag:", t.Tag)
	}
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

func newPush(io IO) *cobra.Command {
	var all, quiet bool
	var platform string
	c := &cobra.Command{Use: "push [OPTIONS] NAME[:TAG]", Short: "Send an image to a registry", Args: arguments(1, 1), ValidArgsFunction: names(storedNames, 1)}
	s := c.Flags()
	s.BoolVarP(&all, "all-tags", "a", false, "send all tags of the repository")
	s.StringVar(&platform, "platform", "", "send the image for `OS/ARCH[/VARIANT]` alone")
	s.BoolVarP(&quiet, "quiet", "q", false, "do not print how it goes on")
	trusted := contentTrust(s)
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := parsePlatform(platform)
		if err == nil {
			err = trusted()
		}
		if err != nil {
			return err
		}
		store, err := openImages()
		if err != nil {
			return err
		}
		r, err := image.ParseReference(args[0])
		if err != nil {
			return err
		}
		o := image.PushOptions{Platform: p}
		done := func() {}
		if !quiet {
			sayDefaultTag(io, r, all)
			shown := showProgress(io.Out)
			o.Progress, done = shown.tell, shown.done
		}
		if all {
			err = store.PushTags(c.Context(), args[0], o)
		} else {
			r = r.Tagged()
			_, err = store.Push(c.Context(), args[0], o)
		}
		done()
		if err == nil && quiet {
			fmt.Fprintln(io.Out, r)
		}
		return err
	}
	return c
}
