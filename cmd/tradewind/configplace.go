package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/tradewind-llm/tradewind/serving/rules"
)

// located gives mistakes that were found once the file had been read, such as a name that stands for nothing, their lines.
func (c *config) located(err error) error {
	var wrong rules.Problems
	if !errors.As(err, &wrong) {
		return err
	}
	var all problems
	for _, p := range wrong[:min(len(wrong), problemsMax)] {
		text := p.Text
		if p.Path[0] == "rules" || p.Path[0] == "policies" {
			text = rules.Problems{p}.Error()
		}
		all = append(all, problem{lineOf(c.source, p.Path), text})
	}
	slices.SortStableFunc(all, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
	return fmt.Errorf("config: %w", all)
}

// lineOf is where a value of the file stands, or the last above it that does. A path is of names of keys and indices of
// lists.
func lineOf(source ast.Node, path []any) (line int) {
	var err error
	defer survive(&err) // what cannot be found has no line
	for ; source != nil && len(path) > 0; path = path[:len(path)-1] {
		b := (&yaml.PathBuilder{}).Root()
		for _, step := range path {
			if i, ok := step.(int); ok {
				b = b.Index(uint(i))
			} else {
				b = b.Child(fmt.Sprint(step))
			}
		}
		if n, missing := b.Build().FilterNode(source); missing == nil && n != nil {
			return firstLine(n)
		}
	}
	return 0
}

// firstLine is that on which a node begins. The token of a mapping is its first colon.
func firstLine(n ast.Node) int {
	switch m := n.(type) {
	case *ast.MappingNode:
		if len(m.Values) > 0 && m.Start.Value != "{" {
			n = m.Values[0].Key
		}
	case *ast.MappingValueNode:
		n = m.Key
	}
	return n.GetToken().Position.Line
}
