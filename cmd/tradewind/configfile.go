package main

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

const (
	// secretBytesMax bounds a file that holds a secret.
	secretBytesMax = 64 << 10
	// problemsMax is how many mistakes of one file are told.
	problemsMax = 50
	// nestingMax is how deep a file may be nested. The library's time grows with the square of it.
	nestingMax = 200
)

// problem is one mistake in a configuration file.
type problem struct {
	Line int
	Text string
}

// problems is every mistake that was found in a file, in its order.
type problems []problem

// Error lists them, one a line.
func (p problems) Error() string {
	var lines []string
	for _, x := range p {
		lines = append(lines, fmt.Sprintf("line %d: %s", x.Line, x.Text))
	}
	return strings.Join(lines, "\n  ")
}

// parseConfig reads a file: it substitutes variables in values, never in the text, so that a variable's value cannot
// change the structure; it lists every key that is not known, with the nearest that is; then it decodes.
func parseConfig(c *config, text []byte, getenv func(string) string) error {
	body, err := parseYAML(text)
	if body == nil || err != nil {
		return err
	}
	r := configReader{getenv: getenv}
	r.values(body)
	r.check(body, reflect.TypeFor[config](), "")
	c.files, c.source, c.substituted = append(c.files, r.files...), body, r.secrets
	if len(r.problems) > 0 {
		return r.problems
	}
	return decodeYAML(body, c, yaml.Strict())
}

// decodeYAML decodes a parsed file.
func decodeYAML(body ast.Node, into any, options ...yaml.DecodeOption) (err error) {
	defer survive(&err)
	// The library takes a time that it cannot parse for no time at all: a key would never expire.
	options = append(options, yaml.CustomUnmarshaler(parseTime), yaml.CustomUnmarshaler(parseBool))
	if err := yaml.NewDecoder(bytes.NewReader(nil), options...).DecodeFromNode(body, into); err != nil {
		return yamlError(err)
	}
	return nil
}

// survive makes an error of a panic: the library has some, and a server that reloads a strange file must outlive it.
func survive(err *error) {
	if recover() != nil {
		*err = errors.New("it cannot be read as YAML")
	}
}

// parseYAML reads the one document of a file; nil where it is empty.
func parseYAML(text []byte) (body ast.Node, err error) {
	defer survive(&err)
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // some editors begin a file with it
	if nesting(text) > nestingMax {
		return nil, fmt.Errorf("it is nested deeper than %d levels", nestingMax)
	}
	f, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, yamlError(err)
	}
	for _, doc := range f.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.CommentType:
		case body != nil:
			return nil, problems{{doc.Body.GetToken().Position.Line, "a second document begins; only one is read"}}
		default:
			body = doc.Body
		}
	}
	return body, nil
}

// nesting is at least the depth of a file, before anybody has parsed it: its brackets, and the dashes, question marks and
// indentation before the first word of a line.
func nesting(text []byte) (most int) {
	depth := 0
	for line := range bytes.Lines(text) {
		words := bytes.TrimLeft(line, " -?:")
		most = max(most, (len(line)-len(words))/2)
		for _, b := range words {
			switch b {
			case '[', '{':
				depth++
				most = max(most, depth)
			case ']', '}':
				depth = max(0, depth-1)
			}
		}
	}
	return most
}

// yamlPlace is how the library writes a position.
var yamlPlace = regexp.MustCompile(`^\[(\d+):(\d+)\] `)

// yamlError is the library's error without the lines around it, which may hold a key.
func yamlError(err error) error {
	return errors.New(yamlPlace.ReplaceAllString(yaml.FormatError(err, false, false), "line $1, column $2: "))
}

func parseTime(t *time.Time, text []byte) error {
	s := strings.Trim(string(bytes.TrimSpace(text)), `"'`)
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if parsed, err := time.Parse(layout, s); err == nil {
			*t = parsed
			return nil
		}
	}
	return errors.New("a time must be written as 2026-12-31 or 2026-12-31T23:59:59Z")
}

// parseBool reads a truth that may have come from a variable, and so be text.
func parseBool(b *bool, text []byte) error {
	switch strings.Trim(string(bytes.TrimSpace(text)), `"'`) {
	case "true", "True", "TRUE":
		*b = true
	case "false", "False", "FALSE":
		*b = false
	default:
		return errors.New("true or false is wanted")
	}
	return nil
}

// configReader walks a parsed file before it is decoded.
type configReader struct {
	getenv   func(string) string
	files    []string
	problems problems
	// secrets are what was put in place of a name that sounds like one's, or came from a file of its own.
	secrets []telemetry.Secret
	// unknown, where set, is told of keys that nobody reads, in place of problems.
	unknown func(line int, name string)
}

func (r *configReader) problem(n ast.Node, format string, args ...any) {
	if len(r.problems) < problemsMax {
		r.problems = append(r.problems, problem{n.GetToken().Position.Line, fmt.Sprintf(format, args...)})
	}
}

// values substitutes in every value below n. Keys stay as they are.
func (r *configReader) values(n ast.Node) {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			r.values(v.Value)
		}
	case *ast.MappingValueNode:
		r.values(n.Value)
	case *ast.SequenceNode:
		for _, v := range n.Values {
			r.values(v)
		}
	case *ast.AnchorNode:
		r.values(n.Value)
	case *ast.TagNode:
		r.values(n.Value)
	case *ast.LiteralNode:
		r.values(n.Value)
	case *ast.StringNode:
		if value := r.value(n, n.Value); value != n.Value {
			n.Value, n.Token.Origin = value, strconv.Quote(value) // quoted, it stays one value wherever the library looks
		}
	}
}

// value replaces os.environ/NAME, env.NAME and file:/path, each as a whole value, and ${NAME} and ${NAME:-default}
// anywhere in it.
func (r *configReader) value(n ast.Node, s string) string {
	for _, prefix := range [...]string{"os.environ/", "env."} {
		if name, ok := strings.CutPrefix(s, prefix); ok {
			value := r.getenv(name)
			if value == "" {
				r.problem(n, "the variable %s is not set", name)
			}
			r.secret(name, value)
			return value
		}
	}
	if path, ok := strings.CutPrefix(s, "file:"); ok && strings.HasPrefix(path, "/") {
		r.files = append(r.files, path)
		text, err := readLimited(path, secretBytesMax)
		if err != nil {
			r.problem(n, "%v", err)
		}
		value := strings.TrimRight(string(text), "\r\n")
		if err == nil && value == "" { // as of a variable; and a file that is being written is empty for a moment
			r.problem(n, "%s is empty", path)
		}
		r.secret("key file", value)
		return value
	}
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "${")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		expr, tail, closed := strings.Cut(after, "}")
		if !closed {
			r.problem(n, "a ${ has no closing brace") // what stands around it may be a secret
			return s
		}
		name, fallback, hasDefault := strings.Cut(expr, ":-")
		value := r.getenv(name)
		if value == "" && !hasDefault {
			r.problem(n, "the variable %s is not set; set it or write ${%s:-default}", name, name)
		}
		if value == "" {
			value = fallback
		}
		r.secret(name, value)
		out.WriteString(value)
		s = tail
	}
}

// secretNames are what the names of variables have in them that hold a secret.
var secretNames = [...]string{"KEY", "TOKEN", "SECRET", "PASSWORD", "BEARER", "CREDENTIAL"}

// secretMin is the shortest value that is taken for a secret: a log without every "1" would tell nothing.
const secretMin = 8

// secret remembers a value, wherever it is put: an address may hold one too, which no type says.
func (r *configReader) secret(name, value string) {
	name = strings.ToUpper(name)
	if len(value) >= secretMin && slices.ContainsFunc(secretNames[:], func(s string) bool { return strings.Contains(name, s) }) {
		r.secrets = append(r.secrets, telemetry.Secret(value))
	}
}

// check looks for keys that nobody reads, and for values that cannot be read, below n, which stands under a name.
func (r *configReader) check(n ast.Node, t reflect.Type, name string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n := n.(type) {
	case *ast.AnchorNode:
		r.check(n.Value, t, name)
		return
	case *ast.TagNode:
		r.problem(n, "tags such as %.40s are not read", n.Start.Value)
		return
	}
	if why := misfit(n, t); why != "" {
		if name != "" {
			why = name + ": " + why
		}
		r.problem(n, "%s", why)
		return
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			r.checkPair(v, t, name)
		}
	case *ast.MappingValueNode:
		r.checkPair(n, t, name)
	case *ast.SequenceNode:
		if t.Kind() == reflect.Slice {
			for _, v := range n.Values {
				r.check(v, t.Elem(), name)
			}
		}
	}
}

func (r *configReader) checkPair(v *ast.MappingValueNode, t reflect.Type, under string) {
	if v.Key.Type() == ast.MergeKeyType {
		r.check(v.Value, t, under)
		return
	}
	name := v.Key.GetToken().Value
	switch t.Kind() {
	case reflect.Map:
		r.check(v.Value, t.Elem(), name)
	case reflect.Struct:
		fields := configFields(t)
		for _, f := range fields {
			if f.name == name {
				r.check(v.Value, f.typ, name)
				r.checkEnum(v.Value, &f)
				r.checkZero(v.Value, &f)
				return
			}
		}
		if r.unknown != nil {
			r.unknown(v.Key.GetToken().Position.Line, name)
			return
		}
		r.problem(v.Key, "unknown key %q%s", name, nearestKey(name, fields))
	}
}

// checkEnum refuses a value that is none of the few that a key may have.
func (r *configReader) checkEnum(n ast.Node, f *configField) {
	value, ok := n.(*ast.StringNode)
	if !ok || f.enum == "" || value.Value == "" {
		return
	}
	if values := strings.Split(f.enum, ","); !slices.Contains(values, value.Value) {
		r.problem(n, "%s %.80q is none of %s", f.name, value.Value, strings.Join(values, ", "))
	}
}

// checkZero refuses 0 where it would be read as if the key were not there: whoever limits something to nothing must not set it free.
func (r *configReader) checkZero(n ast.Node, f *configField) {
	if n, ok := n.(ast.ScalarNode); ok && f.nonzero {
		if v, isNumber := finite(fmt.Sprint(n.GetValue())); isNumber && v == 0 {
			r.problem(n, "%s is 0: leave it out, or name more", f.name)
		}
	}
}

// nearestKey suggests the key that was meant, where one is near.
func nearestKey(name string, fields []configField) string {
	if len(name) > 64 {
		return ""
	}
	best, edits := "", 0
	for _, f := range fields {
		if d := catalog.Edits(name, f.name); 2*d <= max(len(name), len(f.name)) && (best == "" || d < edits) {
			best, edits = f.name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// configField is one key of a struct of the configuration.
type configField struct {
	name      string
	typ       reflect.Type
	doc, enum string
	nonzero   bool
}

// configFields lists the keys of a struct; those of an inlined one are its own.
func configFields(t reflect.Type) (fields []configField) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case option == "inline":
			fields = append(fields, configFields(f.Type)...)
		case name != "" && name != "-":
			_, nonzero := f.Tag.Lookup("nonzero")
			fields = append(fields, configField{name, f.Type, f.Tag.Get("doc"), f.Tag.Get("enum"), nonzero})
		}
	}
	return fields
}
