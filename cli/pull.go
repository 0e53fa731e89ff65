package cli

import (
	"fmt"

	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
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
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := parsePlatform(platform)
		if err != nil {
			return err
		}
		e, err := openEngine()
		if err != nil {
			return err
		}
		o := image.PullOptions{Platform: p}
		done := func() {}
		if !quiet {
			shown := showProgress(io)
			o.Progress, done = shown.tell, shown.done
		}
		if all {
			defer done()
			store, err := e.Images()
			if err == nil {
				_, err = store.PullTags(c.Context(), args[0], o)
			}
			return err
		}
		r, err := image.ParseReference(args[0])
		if err == nil && !quiet && r.Tag == "" && r.Digest == "" {
			fmt.Fprintln(io.Err, "Using default tag: latest")
		}
		if err == nil {
			_, err = e.Pull(c.Context(), args[0], o)
		}
		done()
		if err == nil {
			fmt.Fprintln(io.Out, r.Tagged())
		}
		return err
	}
	return c
}

func newPush(io IO) *cobra.Command {
	var all, quiet bool
	var platform string
	c := &cobra.Command{Use: "push [OPTIONS] NAME[:TAG]", Short: "Send an image to a registry", Args: arguments(1, 1), ValidArgsFunction: names(storedNames, 1)}
	s := c.Flags()
	s.BoolVarP(&all, "all-tags", "a", false, "send all tags of the repository")
	s.StringVar(&platform, "platform", "", "send the image for `OS/ARCH[/VARIANT]` alone")
	s.BoolVarP(&quiet, "quiet", "q", false, "do not print how it goes on")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := parsePlatform(platform)
		if err != nil {
			return err
		}
		store, err := openImages()
		if err != nil {
			return err
		}
		o := image.PushOptions{Platform: p}
		done := func() {}
		if !quiet {
			shown := showProgress(io)
			o.Progress, done = shown.tell, shown.done
		}
		if all {
			err = store.PushTags(c.Context(), args[0], o)
		} else {
			_, err = store.Push(c.Context(), args[0], o)
		}
		done()
		if err != nil {
			return err
		}
		r, err := image.ParseReference(args[0])
		if err == nil && !all {
			fmt.Fprintln(io.Out, r.Tagged())
		}
		return err
	}
	return c
}
