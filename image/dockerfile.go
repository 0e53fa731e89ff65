package image

import (
	"errors"
	"fmt"
	"strings"
)

// instructions are those of a Dockerfile's text, each one line: a backslash at a line's end goes on with the next one, and comments are none.
func instructions(text string) []string {
	var list []string
	var b strings.Builder
	next := func() {
		if s := strings.TrimSpace(b.String()); s != "" {
			list = append(list, s)
		}
		b.Reset()
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if s := strings.TrimLeft(line, " \t"); s == "" && b.Len() > 0 || strings.HasPrefix(s, "#") {
			continue
		}
		rest, goesOn := strings.CutSuffix(line, `\`)
		if goesOn = goesOn && !strings.HasSuffix(rest, `\`); goesOn {
			line = rest
		}
		b.WriteString(line)
		if !goesOn {
			next()
		}
	}
	next()
	return list
}

// fields splits at blanks, but for those within quotes or behind a backslash. The words are as they are written: expand takes the quotes away.
func fields(s string) []string {
	var list []string
	var b strings.Builder
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		if quote == 0 && (c == ' ' || c == '\t') {
			if b.Len() > 0 {
				list = append(list, b.String())
				b.Reset()
			}
			continue
		}
		b.WriteByte(c)
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == quote:
			quote = 0
		}
	}
	if b.Len() > 0 {
		list = append(list, b.String())
	}
	return list
}

// expand gives what a word of a Dockerfile means: without its quotes and backslashes, and with the values of env where it has $NAME, ${NAME},
// ${NAME:-WORD}, ${NAME:+WORD} or ${NAME:?WORD}, whose WORD is the error where NAME is not set. Without the colon, an empty value is one, too.
// What is not set is empty, and "..." and '...' are as in a shell.
func expand(s string, env []string) (string, error) {
	x := expander{rest: s, env: env}
	for x.rest != "" && x.err == nil {
		x.one(true)
	}
	return x.out.String(), x.err
}

type expander struct {
	rest string
	env  []string
	out  strings.Builder
	err  error
}

// one takes the next character, or what begins with it.
func (x *expander) one(quotes bool) {
	c := x.rest[0]
	switch {
	case c == '$':
		x.variable()
	case c == '\\' && quotes && len(x.rest) > 1:
		x.take(1)
		x.out.WriteString(x.take(1))
	case c == '\\' && !quotes && len(x.rest) > 1 && strings.IndexByte(`"$\`, x.rest[1]) >= 0:
		x.take(1)
		x.out.WriteString(x.take(1))
	case c == '\'' && quotes:
		x.take(1)
		end := strings.IndexByte(x.rest, '\'')
		if end < 0 {
			x.err = errors.New("a quote ' is not closed")
			return
		}
		x.out.WriteString(x.take(end))
		x.take(1)
	case c == '"' && quotes:
		x.take(1)
		for x.err == nil && x.rest != "" && x.rest[0] != '"' {
			x.one(false)
		}
		if x.err == nil && x.rest == "" {
			x.err = errors.New("a quote \" is not closed")
		}
		x.rest = strings.TrimPrefix(x.rest, `"`)
	default:
		x.out.WriteString(x.take(1))
	}
}

func (x *expander) take(n int) (s string) {
	s, x.rest = x.rest[:n], x.rest[n:]
	return s
}

// variable takes $NAME or ${NAME...}.
func (x *expander) variable() {
	x.take(1)
	if !strings.HasPrefix(x.rest, "{") {
		name := x.take(nameLen(x.rest))
		if name == "" {
			x.out.WriteByte('$')
		}
		value, _ := lookup(x.env, name)
		x.out.WriteString(value)
		return
	}
	body, rest, ok := braced(x.rest[1:])
	if x.rest = rest; !ok {
		x.err = fmt.Errorf("${%s is not closed", body)
		return
	}
	n := nameLen(body)
	if n == 0 {
		x.err = fmt.Errorf("${%s} names no variable", body)
		return
	}
	value, err := substitute(body[:n], body[n:], x.env)
	x.err = err
	x.out.WriteString(value)
}

// substitute is the value of a variable, or what its modifier says instead.
func substitute(name, modifier string, env []string) (string, error) {
	value, set := lookup(env, name)
	if modifier == "" {
		return value, nil
	}
	verb := strings.TrimPrefix(modifier, ":")
	if verb != modifier {
		set = value != ""
	}
	if verb == "" || strings.IndexByte("-+?", verb[0]) < 0 {
		return "", fmt.Errorf("${%s%s}: want one of :- :+ :? behind the name", name, modifier)
	}
	word, err := expand(verb[1:], env)
	switch {
	case err != nil || verb[0] != '+' && set:
		return value, err
	case verb[0] == '?':
		return "", fmt.Errorf("%s: %s", name, word)
	case verb[0] == '+' && !set:
		return "", nil
	}
	return word, nil
}

// braced splits at the brace that closes s. Those within quotes or behind a backslash are none.
func braced(s string) (body, rest string, ok bool) {
	depth := 1
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && quote != '\'':
			i++
		case c == quote:
			quote = 0
		case quote != 0:
		case c == '"' || c == '\'':
			quote = c
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return s[:i], s[i+1:], true
			}
		}
	}
	return s, "", false
}

// nameLen is how much of s is the name of a variable, be it a shell's own one, as "1" or "@", which is never set here.
func nameLen(s string) int {
	const digits, letters = "0123456789", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	of := func(these string) int { return len(s) - len(strings.TrimLeft(s, these)) }
	switch n := of(digits); {
	case n > 0:
		return n
	case s != "" && strings.IndexByte("@*#?-$!", s[0]) >= 0:
		return 1
	}
	return of(letters + digits)
}

// lookup finds the value of a variable of KEY=VALUE lines.
func lookup(env []string, name string) (string, bool) {
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value, true
		}
	}
	return "", false
}
