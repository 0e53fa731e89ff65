package docgen

import "strings"

// A Block is a fenced piece of code of a page.
type Block struct {
	Info string // what stands behind the fence: "sh"
	Line int    // the number of its first line, from 1
	Text string
}

// Blocks finds the fenced blocks of a page of Markdown: CommonMark, "Fenced code
// blocks". A fence is three backticks at the begin of a line.
func Blocks(page string) []Block {
	const fence = "```"
	var list []Block
	var text strings.Builder
	open := false
	n := 0
	for line := range strings.Lines(page) {
		n++
		info, isFence := strings.CutPrefix(line, fence)
		switch {
		case isFence && !open:
			open = true
			list = append(list, Block{Info: strings.TrimSpace(info), Line: n + 1})
		case isFence:
			open = false
			list[len(list)-1].Text = text.String()
			text.Reset()
		case open:
			text.WriteString(line)
		}
	}
	return list
}
