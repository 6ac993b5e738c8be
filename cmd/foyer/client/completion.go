package client

import (
	"context"
	"strings"

	"github.com/alecthomas/kong"
)

// CompleteCommand is the first argument by which the scripts of completion ask what may come next. It is no command of
// people, and looked for before the rest of a command line: settings that are wrong are no reason to complete nothing.
const CompleteCommand = "__complete"

// completionCommand prints the script that has a shell ask.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is called by kong.
func (completionCommand) Help() string {
	return "bash: source <(foyer completion bash), in ~/.bashrc. zsh: source <(foyer completion zsh), in ~/.zshrc after compinit. " +
		"fish: foyer completion fish | source, in ~/.config/fish/config.fish."
}

// Run prints it.
func (c *completionCommand) Run(_ context.Context, sys *System) error {
	return sys.print([]byte(scripts[c.Shell]))
}

// scripts ask by CompleteCommand with the words of the command line, the one at the cursor being the last. An answer is
// a line for each word that may stand there, with its help behind a tab; or :files.
var scripts = map[string]string{
	// In bash = divides words; they are put together before, and the part that bash has already is taken off after.
	"bash": `_foyer() {
	local all=() word joined="" n current=${COMP_WORDS[COMP_CWORD]} text help
	for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
		n=${#all[@]}
		if [[ $n -gt 0 && ( $word == "=" || -n $joined ) ]]; then
			all[n-1]+=$word
			[[ $word == "=" ]] && joined=1 || joined=""
		else
			all+=("$word")
		fi
	done
	word=${all[${#all[@]}-1]}
	COMPREPLY=()
	while IFS=$'\t' read -r text help; do
		if [[ $text == :files ]]; then
			[[ $current == "=" ]] && current=""
			compopt -o filenames 2>/dev/null
			while IFS= read -r text; do COMPREPLY+=("$text"); done < <(compgen -f -- "$current")
			return
		fi
		[[ $word == --*=* ]] && text=${text#"${word%%=*}="}
		COMPREPLY+=("$text")
	done < <("${COMP_WORDS[0]/#\~/$HOME}" ` + CompleteCommand + ` "${all[@]}" 2>/dev/null)
}
complete -F _foyer foyer
`,
	"zsh": `#compdef foyer
_foyer() {
	local -a answers texts
	local answer
	answers=("${(@f)$("${words[1]/#\~/$HOME}" ` + CompleteCommand + ` "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ ${answers[1]} == :files ]]; then
		_files
		return
	fi
	for answer in "${answers[@]}"; do
		[[ -n $answer ]] && texts+=("${${answer%%$'\t'*}//:/\\:}:${answer#*$'\t'}")
	done
	_describe foyer texts
}
if [[ ${funcstack[1]} == _foyer ]]; then
	_foyer "$@"
else
	compdef _foyer foyer
fi
`,
	"fish": `function __foyer_complete
	set -l words (commandline -opc)
	set -l current (commandline -ct)
	set -l answers ($words[1] ` + CompleteCommand + ` $words[2..-1] "$current" 2>/dev/null)
	if test "$answers[1]" = ":files"
		__fish_complete_path "$current"
		return
	end
	for answer in $answers
		echo $answer
	end
end
complete -c foyer -f -a '(__foyer_complete)'
`,
}

// Complete prints what may stand in place of the last of words, which follow the name of the program.
func Complete(model *kong.Application, sys *System, words []string) {
	var b strings.Builder
	for _, c := range candidates(model.Node, sys, words) {
		b.WriteString(clean(c.text))
		if c.help != "" {
			b.WriteString("\t" + clean(c.help))
		}
		b.WriteByte('\n')
	}
	_ = sys.print([]byte(b.String()))
}

type candidate struct{ text, help string }

// candidates are the words that may stand in place of the last one.
func candidates(node *kong.Node, sys *System, words []string) []candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	current, arguments := words[len(words)-1], 0
	var waits *kong.Flag // a flag whose value comes next
	plain := false       // after --, nothing is a flag
	for _, word := range words[:len(words)-1] {
		switch child := childOf(node, word); {
		case waits != nil:
			waits = nil
		case plain:
			arguments++
		case word == "--":
			plain = true
		case strings.HasPrefix(word, "-") && word != "-":
			if f := flagOfNode(node, word); f != nil && !f.IsBool() && !strings.Contains(word, "=") {
				waits = f
			}
		case child != nil:
			node = child
		default:
			arguments++
		}
	}
	name, value, given := strings.Cut(current, "=")
	switch {
	case waits != nil:
		return starting(current, "", valuesOf(waits.Value, sys))
	case !plain && given && strings.HasPrefix(current, "--"):
		if f := flagOfNode(node, name); f != nil {
			return starting(value, name+"=", valuesOf(f.Value, sys))
		}
		return nil
	case !plain && strings.HasPrefix(current, "-"):
		return starting(current, "", flagsOfNode(node))
	}
	var all []candidate
	for _, c := range node.Children {
		if !c.Hidden && c.Type == kong.CommandNode {
			all = append(all, candidate{c.Name, firstSentence(c.Help)})
		}
	}
	if n := len(node.Positional); n > 0 {
		all = append(all, valuesOf(node.Positional[min(arguments, n-1)], sys)...)
	}
	return starting(current, "", all)
}

// starting are those that begin so, with what stands before them in the word.
func starting(with, before string, all []candidate) []candidate {
	var fit []candidate
	for _, c := range all {
		switch {
		case c.text == filesFollow:
			return []candidate{c}
		case strings.HasPrefix(c.text, with):
			fit = append(fit, candidate{before + c.text, c.help})
		}
	}
	return fit
}

const filesFollow = ":files"

// valuesOf are the values that are known of a flag or an argument.
func valuesOf(v *kong.Value, sys *System) []candidate {
	var all []candidate
	switch {
	case v.Enum != "":
		for _, word := range strings.Split(v.Enum, ",") {
			all = append(all, candidate{text: word})
		}
	case v.Tag.Type == "path" || v.Tag.Type == "existingfile":
		return []candidate{{text: filesFollow}}
	case v.Tag.Get("complete") == "context":
		if contexts, err := sys.readContexts(); err == nil {
			for _, name := range contexts.names() {
				all = append(all, candidate{name, contexts.Contexts[name].API})
			}
		}
	}
	return all
}

// nodesOf are a command and those that it stands in, whose flags hold for it, and the command that stands for it.
func nodesOf(node *kong.Node) []*kong.Node {
	var all []*kong.Node
	if node.DefaultCmd != nil {
		all = append(all, node.DefaultCmd)
	}
	for ; node != nil; node = node.Parent {
		all = append(all, node)
	}
	return all
}

func flagsOfNode(node *kong.Node) []candidate {
	var all []candidate
	for _, n := range nodesOf(node) {
		for _, f := range n.Flags {
			if !f.Hidden {
				all = append(all, candidate{"--" + f.Name, firstSentence(f.Help)})
			}
		}
	}
	return all
}

func flagOfNode(node *kong.Node, word string) *kong.Flag {
	name, _, _ := strings.Cut(word, "=")
	for _, n := range nodesOf(node) {
		for _, f := range n.Flags {
			if name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short) {
				return f
			}
		}
	}
	return nil
}

func childOf(node *kong.Node, name string) *kong.Node {
	for _, c := range node.Children {
		if c.Name == name && c.Type == kong.CommandNode {
			return c
		}
	}
	return nil
}

// firstSentence is what fits beside a word.
func firstSentence(help string) string {
	text, _, _ := strings.Cut(help, ". ")
	return brief(strings.TrimSuffix(text, "."), 80)
}
