package docgen

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// Lists reads Go source and returns, by their names, what those functions return that
// do nothing but return a literal []string: lists that a page can show.
func Lists(src []byte) (map[string][]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	lists := map[string][]string{}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv != nil || f.Type.Params.NumFields() > 0 || f.Body == nil || len(f.Body.List) != 1 {
			continue
		}
		ret, ok := f.Body.List[0].(*ast.ReturnStmt)
		if !ok || len(ret.Results) != 1 {
			continue
		}
		if lit, ok := ret.Results[0].(*ast.CompositeLit); ok {
			lists[f.Name.Name] = items(lit)
		}
	}
	return lists, nil
}

// items collects the strings of a literal.
func items(lit *ast.CompositeLit) []string {
	var list []string
	for _, e := range lit.Elts {
		if b, ok := e.(*ast.BasicLit); ok && b.Kind == token.STRING {
			if s, err := strconv.Unquote(b.Value); err == nil {
				list = append(list, s)
			}
		}
	}
	return list
}

// Fill replaces what stands between the lines
//
//	<!-- generated NAME -->
//	<!-- end -->
//
// of a page by the part of that name. It is an error when a page asks for a part that
// is not there or is empty, or has no end of one.
func Fill(page []byte, parts map[string]string) ([]byte, error) {
	const begin, end, close = "<!-- generated ", "<!-- end -->", " -->"
	var out strings.Builder
	rest := string(page)
	for {
		before, after, found := strings.Cut(rest, begin)
		out.WriteString(before)
		if !found {
			return []byte(out.String()), nil
		}
		name, body, ok := strings.Cut(after, close)
		_, tail, ok2 := strings.Cut(body, end)
		if !ok || !ok2 {
			return nil, fmt.Errorf("part %.40q: no %q follows", after, end)
		}
		if parts[name] == "" {
			return nil, fmt.Errorf("part %q: there is none", name)
		}
		out.WriteString(begin + name + close + "\n" + parts[name] + end)
		rest = tail
	}
}

// Paragraph sets items as code, sorted, in lines of at most 100 columns. It is empty
// for an empty list.
func Paragraph(list []string) string {
	var b strings.Builder
	column := 0
	for i, s := range slices.Sorted(slices.Values(list)) {
		s = "`" + s + "`"
		if i < len(list)-1 {
			s += ","
		}
		switch {
		case column == 0:
		case column+1+len(s) > 100:
			b.WriteString("\n")
			column = 0
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(s)
		column += len(s)
	}
	if column > 0 {
		b.WriteString("\n")
	}
	return b.String()
}
