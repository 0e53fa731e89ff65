package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kakuri/kakuri/cli/format"
	"github.com/kakuri/kakuri/image"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newLogin(io IO) *cobra.Command {
	var user, password string
	var fromStdin bool
	c := &cobra.Command{
		Use: "login [OPTIONS] [SERVER]", Short: "Log in to a registry",
		Long: `Log in to a registry, by default docker.io: the registry is asked whether it
takes the name and the password, and they are kept where Docker keeps them: with
the credential helper that ~/.docker/config.json names, else in that file.`,
		Args: arguments(0, 1), ValidArgsFunction: cobra.NoFileCompletions,
	}
	s := c.Flags()
	s.StringVarP(&user, "username", "u", "", "name of the user")
	s.StringVarP(&password, "password", "p", "", "password or token; - reads it from stdin")
	s.BoolVar(&fromStdin, "password-stdin", false, "read the password or token from stdin")
	c.RunE = func(c *cobra.Command, args []string) error {
		fromStdin = fromStdin || password == "-"
		switch {
		case fromStdin && c.Flags().Changed("password") && password != "-":
			return errors.New("conflicting options: cannot specify both --password and --password-stdin")
		case fromStdin && user == "":
			return errors.New("the --password-stdin option requires --username to be set")
		case c.Flags().Changed("username") && user == "":
			return errors.New("username is empty")
		case c.Flags().Changed("password") && password == "":
			return errors.New("password is empty")
		}
		if password != "" && !fromStdin {
			fmt.Fprintln(io.Err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
		}
		store, err := openImages(io)
		if err != nil {
			return err
		}
		host := strings.Join(args, "")
		if user == "" && password == "" && !fromStdin && loginKnown(c, io, store, host) {
			return nil
		}
		cred, err := credentials(io, user, password, fromStdin)
		if err != nil {
			return err
		}
		where, err := store.Login(c.Context(), host, cred)
		if err != nil {
			return err
		}
		if where != "" {
			fmt.Fprintf(io.Err, "The password is kept in %s\n", where)
		}
		fmt.Fprintln(io.Out, "Login Succeeded")
		return nil
	}
	return c
}

// loginKnown tries what is kept for a registry. Where there is nothing, or the registry does not take it, somebody has to be asked.
func loginKnown(c *cobra.Command, io IO, store *image.Store, host string) bool {
	known, err := store.Known(c.Context(), host)
	if err != nil || known == (image.Credentials{}) {
		return false
	}
	fmt.Fprintf(io.Out, "Authenticating with existing credentials... [Username: %s]\n", format.Lines(known.Username))
	if _, err := store.Login(c.Context(), host, known); err != nil {
		fmt.Fprintf(io.Err, "Login did not succeed, error: %s\n", format.Lines(err.Error()))
		return false
	}
	fmt.Fprintln(io.Out, "Login Succeeded")
	return true
}

// credentials asks for what was not given.
func credentials(io IO, user, password string, fromStdin bool) (image.Credentials, error) {
	cred := image.Credentials{Username: user, Password: password}
	if fromStdin {
		text, err := readSecret(io.In)
		if err == nil && text == "" {
			err = errors.New("password is empty")
		}
		cred.Password = text
		return cred, err
	}
	if cred.Username != "" && cred.Password != "" {
		return cred, nil
	}
	in := file(io.In)
	if in == nil || !term.IsTerminal(int(in.Fd())) {
		return cred, errors.New("cannot perform an interactive login from a non TTY device")
	}
	if cred.Username == "" {
		fmt.Fprint(io.Err, "Username: ")
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			return cred, err
		}
		if cred.Username = strings.TrimSpace(line); cred.Username == "" {
			return cred, errors.New("username is empty")
		}
	}
	if cred.Password == "" {
		fmt.Fprint(io.Err, "Password: ")
		secret, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(io.Err)
		if err != nil {
			return cred, err
		}
		if cred.Password = string(secret); cred.Password == "" {
			return cred, errors.New("password is empty")
		}
	}
	return cred, nil
}

// readSecret reads all of r, without the end of its last line.
func readSecret(r io.Reader) (string, error) {
	const longest = 1 << 16
	data, err := io.ReadAll(io.LimitReader(r, longest+1))
	if err == nil && len(data) > longest {
		err = errors.New("the password is longer than 65536 bytes")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), err
}

func newLogout(io IO) *cobra.Command {
	return &cobra.Command{
		Use: "logout [SERVER]", Short: "Forget the password of a registry", Args: arguments(0, 1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			store, err := openImages(io)
			if err != nil {
				return err
			}
			host := strings.Join(args, "")
			shown := image.DockerHub // which nobody has named
			if host != "" {
				shown = image.ServerOf(host)
			}
			fmt.Fprintln(io.Out, "Removing login credentials for", shown)
			return store.Logout(c.Context(), host)
		},
	}
}
