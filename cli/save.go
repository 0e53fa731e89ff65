package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newSave(io IO) *cobra.Command {
	var output, layout string
	var platforms []string
	c := &cobra.Command{
		Use: "save [OPTIONS] IMAGE [IMAGE...]", Short: "Write images into a tar", Args: arguments(1, -1), ValidArgsFunction: names(storedNames, -1),
		Example: "  kakuri save -o app.tar app:1 app:2\n  kakuri save --format oci-archive app | ssh host kakuri load",
	}
	s := c.Flags()
	s.StringVarP(&output, "output", "o", "", "write to `FILE` in place of stdout; with --format oci-layout it is a directory")
	s.StringVar(&layout, "format", "", "docker-archive (default), oci-archive, or oci-layout: `FORMAT`, where docker-archive is what every engine loads")
	s.StringSliceVar(&platforms, "platform", nil, "the images for `OS/ARCH[/VARIANT]` alone")
	c.RunE = func(c *cobra.Command, args []string) error {
		list, err := parsePlatforms(platforms)
		if err != nil {
			return err
		}
		o := image.SaveOptions{Format: layout, Platforms: list}
		store, err := openImages(io)
		if err != nil {
			return err
		}
		if layout == "oci-layout" {
			if output == "" {
				return errors.New("--format oci-layout is a directory: name it by --output")
			}
			o.Format = ""
			return store.SaveDir(c.Context(), output, args, o)
		}
		return writeOutput(io, output, "save", func(w writer) error { return store.Save(c.Context(), w, args, o) })
	}
	return c
}

func newLoad(io IO) *cobra.Command {
	var input string
	var quiet bool
	var platforms []string
	c := &cobra.Command{
		Use: "load [OPTIONS]", Short: "Read images out of a tar", Args: arguments(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Read images out of an archive as docker save, podman, skopeo and others write it:
docker-archive or oci-archive, plain or compressed by gzip, zstd, xz or bzip2.
With -i, a directory is an OCI image layout.`,
	}
	s := c.Flags()
	s.StringVarP(&input, "input", "i", "", "read `FILE` in place of stdin")
	s.StringSliceVar(&platforms, "platform", nil, "the images for `OS/ARCH[/VARIANT]` alone")
	s.BoolVarP(&quiet, "quiet", "q", false, "do not print how it goes on")
	c.RunE = func(c *cobra.Command, _ []string) error {
		list, err := parsePlatforms(platforms)
		if err != nil {
			return err
		}
		store, err := openImages(io)
		if err != nil {
			return err
		}
		in, closeIn, err := openInput(io, input == "", input, "requested load from stdin, but stdin is a terminal: use -i, or redirect")
		if err != nil {
			return err
		}
		defer closeIn()
		o := image.LoadOptions{Platforms: list}
		done := func() {}
		if !quiet && width(io.Err) > 0 {
			shown := showProgress(io.Err)
			o.Progress, done = shown.tell, shown.done
		}
		loaded, err := loadFrom(c, store, in, o)
		done()
		printLoaded(io, loaded)
		if err != nil && input != "" {
			err = fmt.Errorf("%s: %w", input, err)
		}
		return err
	}
	return c
}

func printLoaded(io IO, list []image.Loaded) {
	for _, l := range list {
		for _, name := range l.Names {
			fmt.Fprintln(io.Out, "Loaded image:", format.Lines(name))
		}
		if len(l.Names) == 0 {
			fmt.Fprintln(io.Out, "Loaded image ID:", l.Image.ID)
		}
	}
}

// openInput opens stdin or a file, and has onTerminal for an error where a person would have to type it.
func openInput(in IO, stdin bool, name, onTerminal string) (r io.Reader, done func(), err error) {
	if !stdin {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, err
		}
		return f, func() { f.Close() }, nil
	}
	if f := file(in.In); f != nil && term.IsTerminal(int(f.Fd())) {
		return nil, nil, errors.New(onTerminal)
	}
	return in.In, func() {}, nil
}

func loadFrom(c *cobra.Command, store *image.Store, in io.Reader, o image.LoadOptions) ([]image.Loaded, error) {
	if f := file(in); f != nil {
		if st, err := f.Stat(); err == nil && st.IsDir() {
			return store.LoadDir(c.Context(), f, o)
		}
	}
	return store.Load(c.Context(), in, o)
}

func newImport(io IO) *cobra.Command {
	var changes []string
	var message, platform string
	c := &cobra.Command{
		Use: "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]", Short: "Make an image of a tar of a root file system", Args: arguments(1, 2),
		Example: "  tar -C rootfs -c . | kakuri import - app:1\n  kakuri import -c 'CMD [\"/bin/sh\"]' rootfs.tar.gz app:2",
	}
	s := c.Flags()
	s.StringArrayVarP(&changes, "change", "c", nil, "apply an `INSTRUCTION` of a Dockerfile to it")
	s.StringVarP(&message, "message", "m", "", "comment of the image")
	platformFlag(s, &platform, "what it runs on: `OS/ARCH[/VARIANT]` (default: this machine's)")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := parsePlatform(platform)
		if err != nil {
			return err
		}
		store, err := openImages(io)
		if err != nil {
			return err
		}
		in, err := openSource(c, io, args[0])
		if err != nil {
			return err
		}
		defer in.Close()
		img, err := store.Import(c.Context(), in, strings.Join(args[1:], ""), image.ImportOptions{Platform: p, Changes: changes, Message: message})
		if err != nil {
			return err
		}
		fmt.Fprintln(io.Out, img.ID)
		return nil
	}
	return c
}

// openSource opens what import reads: a file, stdin, or what a URL leads to.
func openSource(c *cobra.Command, in IO, name string) (io.ReadCloser, error) {
	switch {
	case name == "-":
		return io.NopCloser(in.In), nil
	case strings.HasPrefix(name, "http://"), strings.HasPrefix(name, "https://"):
		return image.OpenURL(c.Context(), name)
	}
	return os.Open(name)
}

// writeOutput has a file written, or stdout where that is no terminal. A file is there when it is whole.
func writeOutput(out IO, name, what string, write func(io.Writer) error) error {
	if name == "" {
		if out.onTerminal() {
			return fmt.Errorf("cowardly refusing to %s to a terminal. Use the -o flag or redirect", what)
		}
		w := bufio.NewWriterSize(out.Out, 1<<16)
		return flushed(w, write)
	}
	st, err := os.Stat(name)
	if link, lerr := os.Lstat(name); lerr == nil && link.Mode()&os.ModeSymlink != 0 && (err != nil || st.Mode().IsRegular()) {
		// The new file would take the place of the link: of /dev/stdout, say, with stdout a file.
		return fmt.Errorf("%s: cannot write to a symbolic link directly: name what it leads to", name)
	}
	if err == nil && !st.Mode().IsRegular() { // a FIFO, /dev/null
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	if _, err := os.Stat(filepath.Dir(name)); err != nil {
		return fmt.Errorf("invalid output path: %w", err) // and not that of a file which nobody asked for
	}
	f, err := os.CreateTemp(filepath.Dir(name), tempOutput+filepath.Base(name)+"-")
	if err != nil {
		return ofOutput(err, name)
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriterSize(f, 1<<16)
	if err := errors.Join(flushed(w, write), f.Chmod(0o600), f.Close()); err != nil {
		return ofOutput(err, name)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return &os.PathError{Op: "rename", Path: name, Err: errors.Unwrap(err)}
	}
	return nil
}

// tempOutput begins the name of a file that is not whole yet.
const tempOutput = ".tmp-"

// ofOutput has an error name the file that was asked for, and not the one that was to become it.
func ofOutput(err error, name string) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) && strings.HasPrefix(filepath.Base(e.Path), tempOutput+filepath.Base(name)+"-") {
		e.Path = name
	}
	return err
}

// flushed writes through a buffer, which repeats an error that it has given once.
func flushed(w *bufio.Writer, write func(io.Writer) error) error {
	if err := write(w); err != nil {
		return err
	}
	return w.Flush()
}
