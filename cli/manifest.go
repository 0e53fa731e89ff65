package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kakuri/kakuri/image"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func insecureFlag(s *pflag.FlagSet) *bool {
	return s.Bool("insecure", false, "speak with a registry whose TLS cannot be verified, or that has none")
}

func newManifestCreate(io IO) *cobra.Command {
	var amend bool
	c := &cobra.Command{
		Use: "create [OPTIONS] MANIFEST_LIST MANIFEST [MANIFEST...]", Short: "Make a list of manifests that a registry has", Args: arguments(2, -1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Make a list of manifests that a registry has, each for another platform. The
list is kept here until it is pushed, and is no image.`,
		Example: "  kakuri manifest create reg.lan/app:1 reg.lan/app:1-amd64 reg.lan/app:1-arm64\n  kakuri manifest push --purge reg.lan/app:1",
	}
	c.Flags().BoolVarP(&amend, "amend", "a", false, "add to a list that is there")
	insecure := insecureFlag(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		store, err := openImages(io)
		if err != nil {
			return err
		}
		name, err := store.CreateList(c.Context(), args[0], args[1:], amend, image.ManifestOptions{Insecure: *insecure})
		if err == nil {
			fmt.Fprintln(io.Out, "Created manifest list", name)
		}
		return err
	}
	return c
}

func newManifestAnnotate(io IO) *cobra.Command {
	var p image.Platform
	c := &cobra.Command{
		Use: "annotate [OPTIONS] MANIFEST_LIST MANIFEST", Short: "Say which platform a manifest of a list is for", Args: arguments(2, 2), ValidArgsFunction: cobra.NoFileCompletions,
	}
	s := c.Flags()
	s.StringVar(&p.Architecture, "arch", "", "set the architecture")
	s.StringVar(&p.OS, "os", "", "set the operating system")
	s.StringSliceVar(&p.OSFeatures, "os-features", nil, "add features of the operating system")
	s.StringVar(&p.OSVersion, "os-version", "", "set the version of the operating system")
	s.StringVar(&p.Variant, "variant", "", "set the variant of the architecture")
	c.RunE = func(c *cobra.Command, args []string) error {
		store, err := openImages(io)
		if err != nil {
			return err
		}
		return store.AnnotateList(c.Context(), args[0], args[1], p)
	}
	return c
}

func newManifestPush(io IO) *cobra.Command {
	var purge bool
	c := &cobra.Command{
		Use: "push [OPTIONS] MANIFEST_LIST", Short: "Send a list to a registry", Args: arguments(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Send a list to the registry of its name, and what it has of other repositories
of that registry. The digest is printed.`,
	}
	c.Flags().BoolVarP(&purge, "purge", "p", false, "forget the list when it is there")
	insecure := insecureFlag(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		store, err := openImages(io)
		if err != nil {
			return err
		}
		d, err := store.PushList(c.Context(), args[0], image.ManifestOptions{Insecure: *insecure}, func(to image.Reference, d digest.Digest) {
			fmt.Fprintf(io.Out, "Pushed ref %s with digest: %s\n", to, d)
		})
		if err == nil {
			fmt.Fprintln(io.Out, d)
		}
		if err == nil && purge {
			err = store.RemoveList(c.Context(), args[0])
		}
		return err
	}
	return c
}

func newManifestRM(io IO) *cobra.Command {
	return &cobra.Command{
		Use: "rm MANIFEST_LIST [MANIFEST_LIST...]", Short: "Forget lists", Args: arguments(1, -1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			store, err := openImages(io)
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				errs = append(errs, store.RemoveList(c.Context(), name))
			}
			return errors.Join(errs...)
		},
	}
}

func newManifestInspect(io IO) *cobra.Command {
	var verbose bool
	c := &cobra.Command{
		Use: "inspect [OPTIONS] [MANIFEST_LIST] MANIFEST", Short: "Show a manifest or a list, of a registry or made here", Args: arguments(1, 2), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Show a manifest or a list: one that was made here, or else what a registry has
under the name. Nothing is kept of it.`,
	}
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show each manifest with its descriptor and its platform")
	insecure := insecureFlag(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		store, err := openImages(io)
		if err != nil {
			return err
		}
		l, err := store.ManifestList(args[0])
		var none *image.NoManifestError
		switch {
		case err == nil && len(args) == 2:
			i, err := l.Entry(args[1])
			if err != nil {
				return err
			}
			return printManifest(io, image.RemoteManifest{Raw: l.Entries[i].Raw, Entries: l.Entries[i : i+1]}, verbose)
		case err == nil:
			raw, _, err := l.Index()
			if err != nil {
				return err
			}
			return printManifest(io, image.RemoteManifest{Raw: raw, Index: true, Entries: l.Entries}, verbose)
		case !errors.As(err, &none) || len(args) == 2:
			return err
		}
		m, err := store.Manifest(c.Context(), args[0], verbose, image.ManifestOptions{Insecure: *insecure})
		if err != nil {
			return err
		}
		return printManifest(io, m, verbose)
	}
	return c
}

// printManifest prints the document, or what is known of each manifest.
func printManifest(io IO, m image.RemoteManifest, verbose bool) error {
	var out bytes.Buffer
	if !verbose {
		indent := "\t"
		if m.Index {
			indent = "   "
		}
		if err := json.Indent(&out, m.Raw, "", indent); err != nil {
			return err
		}
		_, err := fmt.Fprintln(io.shown(), out.String())
		return err
	}
	type shown struct {
		Ref              string
		Descriptor       v1.Descriptor
		Raw              []byte
		SchemaV2Manifest json.RawMessage `json:",omitempty"`
		OCIManifest      json.RawMessage `json:",omitempty"`
	}
	all := []shown{}
	for _, e := range m.Entries {
		s := shown{Ref: e.Ref.String(), Descriptor: e.Descriptor, Raw: e.Raw}
		if e.Descriptor.MediaType == v1.MediaTypeImageManifest {
			s.OCIManifest = e.Raw
		} else {
			s.SchemaV2Manifest = e.Raw
		}
		all = append(all, s)
	}
	var value any = all
	if !m.Index {
		value = all[0]
	}
	text, err := json.MarshalIndent(value, "", "\t")
	if err == nil {
		_, err = fmt.Fprintln(io.shown(), string(text))
	}
	return err
}
