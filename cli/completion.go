package cli

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"
)

func newCompletion(io IO) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print what has a shell complete commands, flags and names",
		Long: `Print the script that has a shell complete the commands of kakuri, their flags, and names of containers, images,
networks and volumes. The package has it in its place; by hand, a line in the shell's own start-up file does it.`,
		Example: `  source <(kakuri completion bash)    # in ~/.bashrc
  source <(kakuri completion zsh)     # in ~/.zshrc, behind compinit
  kakuri completion fish | source     # in ~/.config/fish/config.fish`,
		Args: arguments(1, 1), ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(c *cobra.Command, args []string) error {
			script, err := Completion(c.Root(), args[0])
			if err == nil {
				_, err = io.Out.Write(script)
			}
			return err
		},
	}
}

// Completion is the script by which a shell completes lines of root's command: it asks the command.
func Completion(root *cobra.Command, shell string) (script []byte, err error) {
	var b bytes.Buffer
	switch shell {
	case "bash":
		err = root.GenBashCompletionV2(&b, true)
		return standAlone(b.Bytes()), err
	case "zsh":
		err = root.GenZshCompletion(&b)
	case "fish":
		err = root.GenFishCompletion(&b, true)
	default:
		err = usageError{fmt.Errorf("no script for %q: there are bash, zsh and fish", shell)}
	}
	return b.Bytes(), err
}

// standAlone has bash's script work where the package bash-completion is not loaded, whose function it calls for the words of the line: bash splits them
// at = and : too, which are no ends of words here.
func standAlone(script []byte) []byte {
	const call = `    _get_comp_words_by_ref "$@" cur prev words cword` + "\n"
	const own = `    local i word rest=${COMP_LINE:0:COMP_POINT}
    words=() cword=0
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i == COMP_CWORD)); then
            word=${rest#"${rest%%[![:space:]]*}"} # up to the cursor
        fi
        if ((i > 0)) && [[ $rest != [[:space:]]* && ($word == [=:]* || ${words[cword]} == *[=:]) ]]; then
            words[cword]+=$word
        else
            ((i > 0)) && cword=$((cword + 1))
            words[cword]=$word
        fi
        rest=${rest#*"$word"}
    done
    cur=${words[cword]}
    ((cword == 0)) || prev=${words[cword - 1]}
`
	return bytes.Replace(script, []byte(call), []byte(own), 1)
}
