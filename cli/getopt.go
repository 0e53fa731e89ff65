package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kakuri/kakuri/engine"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// likeGetopt has c read its line as util-linux's programs do, by getopt_long(3), and not as
// pflag does: long options may be cut short, and an optional value follows its option without
// a space. Short options with an optional value have it only where shortValue says so.
func likeGetopt(c *cobra.Command, shortValue bool, run func(c *cobra.Command, args []string) error) {
	c.DisableFlagParsing = true
	c.Flags().BoolP("version", "V", false, "print the version")
	c.RunE = func(c *cobra.Command, line []string) error {
		c.InheritedFlags() // which adds them to those of the command
		options, args, err := getopt(c.Flags(), line, shortValue)
		if err == nil {
			err = c.Flags().Parse(options)
		}
		if err != nil {
			return c.FlagErrorFunc()(c, err)
		}
		if help, _ := c.Flags().GetBool("help"); help {
			return c.Help()
		}
		if version, _ := c.Flags().GetBool("version"); version {
			fmt.Fprintln(c.OutOrStdout(), "kakuri", Version)
			return nil
		}
		return run(c, args)
	}
}

// getopt writes the options of a line in the one form that leaves no choice, --name=value, up
// to the first word that is none.
func getopt(flags *pflag.FlagSet, line []string, shortValue bool) (options, args []string, err error) {
	for i := 0; i < len(line); i++ {
		word := line[i]
		if word == "--" {
			return options, line[i+1:], nil
		}
		if len(word) < 2 || word[0] != '-' {
			return options, line[i:], nil
		}
		next := func() (string, bool) { // the following word, as a value
			if i+1 == len(line) {
				return "", false
			}
			i++
			return line[i], true
		}
		var o []string
		if name, ok := strings.CutPrefix(word, "--"); ok {
			o, err = longOption(flags, name, next)
		} else {
			o, err = shortOptions(flags, word[1:], shortValue, next)
		}
		if err != nil {
			return nil, nil, err
		}
		options = append(options, o...)
	}
	return options, nil, nil
}

// takes says what value a flag takes.
func takes(f *pflag.Flag) (required, optional bool) {
	switch {
	case f.Value.Type() == "bool":
		return false, false
	case f.NoOptDefVal != "":
		return false, true
	}
	return true, false
}

func longOption(flags *pflag.FlagSet, word string, next func() (string, bool)) ([]string, error) {
	name, value, given := strings.Cut(word, "=")
	f, err := longNamed(flags, name)
	if err != nil {
		return nil, err
	}
	required, optional := takes(f)
	switch {
	case given && !required && !optional:
		return nil, fmt.Errorf("--%s takes no value", f.Name)
	case required && !given:
		if value, given = next(); !given {
			return nil, fmt.Errorf("--%s needs a value", f.Name)
		}
	case optional && !given:
		return []string{"--" + f.Name}, nil
	case !required && !optional:
		return []string{"--" + f.Name}, nil
	}
	return []string{"--" + f.Name + "=" + value}, nil
}

// longNamed finds a flag by its name, or by the beginning of it that no other flag has.
func longNamed(flags *pflag.FlagSet, name string) (*pflag.Flag, error) {
	if f := flags.Lookup(name); f != nil {
		return f, nil
	}
	var found []*pflag.Flag
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, name) {
			found, names = append(found, f), append(names, "--"+f.Name)
		}
	})
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("unknown flag: --%s", name)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("--%s is one of %s", name, strings.Join(names, ", "))
}

func shortOptions(flags *pflag.FlagSet, letters string, shortValue bool, next func() (string, bool)) ([]string, error) {
	var options []string
	for i := 0; i < len(letters); i++ {
		f := flags.ShorthandLookup(letters[i : i+1])
		if f == nil {
			return nil, fmt.Errorf("unknown shorthand flag: -%c in -%s", letters[i], letters)
		}
		required, optional := takes(f)
		rest := letters[i+1:]
		switch {
		case required && rest == "":
			value, ok := next()
			if !ok {
				return nil, fmt.Errorf("-%c needs a value", letters[i])
			}
			return append(options, "--"+f.Name+"="+value), nil
		case required:
			return append(options, "--"+f.Name+"="+rest), nil
		case optional && shortValue && rest != "":
			return append(options, "--"+f.Name+"="+strings.TrimPrefix(rest, "=")), nil
		}
		options = append(options, "--"+f.Name)
	}
	return options, nil
}

// likeUtilLinux gives an error the exit code that it has with util-linux's programs: 1, and
// that of the execve where the program cannot be run.
func likeUtilLinux(err error) error {
	var code exitCode
	var exit *engine.ExitError
	switch {
	case err == nil || errors.As(err, &code):
		return err
	case errors.As(err, &exit) && exit.Code != 125:
		return err
	}
	return &engine.ExitError{Code: 1, Err: err}
}

// An action is a flag whose values are handled in the order in which they are given.
type action struct {
	kind string // of pflag: "bool" or "string"
	do   func(value string) error
}

func (a action) Set(s string) error { return a.do(s) }
func (a action) String() string     { return "" }
func (a action) Type() string       { return a.kind }
