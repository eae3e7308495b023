package reward

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Limits of a schema. Clients bring their own, in tools and response formats, so compiling and applying one must cost no
// more than what is allowed here, whatever it says: a schema of a hundred lines can describe 2^64 steps.
const (
	// SchemaBytesMax and SchemaNodesMax bound a schema and the objects and arrays in it.
	SchemaBytesMax = 256 << 10
	SchemaNodesMax = 2000
	// stepsMax bounds the work of one check: a schema applied to a value is a step, and so are the entries of both.
	stepsMax = 200_000
	// patternBytesMax bounds a regular expression, patternSizeMax it with its repetitions written out.
	patternBytesMax = 1000
	patternSizeMax  = 10_000
)

var (
	// errSteps says that a schema and an answer together take too long.
	errSteps = errors.New("reward: the schema takes too many steps on this answer")
	// errReference says that a schema refers to something outside of itself. Nothing is ever fetched.
	errReference = errors.New("a schema may refer to nothing outside of itself")
)

// Schema is a JSON Schema. It may be used from any goroutine.
type Schema struct {
	raw []byte
	// free are compiled forms that nobody uses at the moment: each counts the steps of one check at a time.
	free sync.Pool
}

// compiled is a schema with the counter of its steps.
type compiled struct {
	schema *jsonschema.Schema
	steps  *int
}

// CompileSchema reads a JSON Schema; without $schema it is of the draft of 2020. It refuses what refers to other
// documents, what is beyond the limits above, and the keywords contains, dependencies and dependentSchemas, whose work
// cannot be counted.
func CompileSchema(raw []byte) (*Schema, error) {
	s := &Schema{raw: bytes.Clone(raw)}
	c, err := compile(s.raw)
	if err != nil {
		return nil, err
	}
	s.free.Put(c)
	return s, nil
}

// Check is a reason against a text that is not one JSON value which the schema allows.
func (s *Schema) Check(text string) (why string, err error) {
	v, err := parseValue([]byte(text))
	switch {
	case errors.Is(err, errNotJSON):
		return "it is not one JSON value", nil
	case err != nil:
		return "", err
	}
	c, ok := s.free.Get().(*compiled)
	if !ok {
		if c, err = compile(s.raw); err != nil {
			return "", err
		}
	}
	defer s.free.Put(c)
	return c.check(v)
}

// exhausted is what a check ends with whose steps are used up.
type exhausted struct{}

func (c *compiled) check(v any) (why string, err error) {
	defer func() {
		if p := recover(); p != nil {
			if _, ours := p.(exhausted); !ours {
				panic(p)
			}
			why, err = "", errSteps
		}
	}()
	*c.steps = 0
	var invalid *jsonschema.ValidationError
	switch err := c.schema.Validate(v); {
	case errors.As(err, &invalid):
		return reasonOf(invalid), nil
	case err != nil:
		return "", fmt.Errorf("reward: validating: %w", err)
	}
	return "", nil
}

// reasonOf says where the first fault lies and what kind it is, and nothing of the value itself: it is logged.
func reasonOf(e *jsonschema.ValidationError) string {
	for len(e.Causes) > 0 {
		if _, recursion := e.ErrorKind.(*kind.RefCycle); recursion {
			break
		}
		e = e.Causes[0]
	}
	at := strings.Join(e.InstanceLocation, "/")
	return fmt.Sprintf("/%.128s breaks %s", at, strings.Join(e.ErrorKind.KeywordPath(), "/"))
}

func compile(raw []byte) (*compiled, error) {
	if len(raw) > SchemaBytesMax {
		return nil, fmt.Errorf("reward: a schema of %d bytes is larger than %d", len(raw), SchemaBytesMax)
	}
	doc, err := parseValue(raw)
	if err != nil {
		return nil, fmt.Errorf("reward: schema: %w", err)
	}
	if n := nodes(doc); n > SchemaNodesMax {
		return nil, fmt.Errorf("reward: schema: %d objects and arrays are more than %d", n, SchemaNodesMax)
	}
	const name = "schema:///answer"
	out := &compiled{steps: new(int)}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(refuseAll{})
	c.UseRegexpEngine(func(pattern string) (jsonschema.Regexp, error) { return newPattern(pattern, out.steps) })
	c.RegisterVocabulary(&jsonschema.Vocabulary{URL: "schema:steps", Compile: func(_ *jsonschema.CompilerContext, obj map[string]any) (jsonschema.SchemaExt, error) {
		for _, keyword := range []string{"contains", "dependencies", "dependentSchemas"} {
			if _, used := obj[keyword]; used {
				return nil, fmt.Errorf("the keyword %s is not taken", keyword)
			}
		}
		return counter{out.steps, 1 + entries(obj)}, nil
	}})
	c.AssertVocabs()
	if err := c.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("reward: schema: %w", err)
	}
	if out.schema, err = c.Compile(name); err != nil {
		return nil, fmt.Errorf("reward: schema: %w", err)
	}
	return out, nil
}

// nodes counts the objects and arrays of a value.
func nodes(v any) int {
	n := 0
	switch v := v.(type) {
	case []any:
		n = 1
		for _, x := range v {
			n += nodes(x)
		}
	case map[string]any:
		n = 1
		for _, x := range v {
			n += nodes(x)
		}
	}
	return n
}

// entries is what lies directly in a schema: its keywords and their members.
func entries(obj map[string]any) int {
	n := len(obj)
	for _, v := range obj {
		switch v := v.(type) {
		case []any:
			n += len(v)
		case map[string]any:
			n += len(v)
		}
	}
	return n
}

// refuseAll loads nothing, from nowhere.
type refuseAll struct{}

// Load implements jsonschema.URLLoader.
func (refuseAll) Load(string) (any, error) { return nil, errReference }

// counter stands in every schema and counts how often it is applied.
type counter struct {
	steps  *int
	weight int
}

// Validate implements jsonschema.SchemaExt.
func (c counter) Validate(_ *jsonschema.ValidatorContext, v any) {
	n := c.weight
	switch v := v.(type) {
	case []any:
		n += len(v)
	case map[string]any:
		n += len(v)
	}
	spend(c.steps, n)
}

func spend(steps *int, n int) {
	if *steps += n; *steps > stepsMax {
		panic(exhausted{})
	}
}

// pattern is a regular expression (RE2: its time is its size times the text's) whose matches count as steps.
type pattern struct {
	*regexp.Regexp
	size  int
	steps *int
}

func newPattern(text string, steps *int) (*pattern, error) {
	if len(text) > patternBytesMax {
		return nil, fmt.Errorf("a pattern of %d bytes is longer than %d", len(text), patternBytesMax)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	size := patternSize(tree)
	if size > patternSizeMax {
		return nil, fmt.Errorf("a pattern is of size %d with its repetitions written out, which is more than %d", size, patternSizeMax)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &pattern{re, size, steps}, nil
}

// patternSize is about the number of instructions that a pattern becomes.
func patternSize(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += patternSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, 1<<30)
}

// MatchString implements jsonschema.Regexp.
func (p *pattern) MatchString(s string) bool {
	spend(p.steps, 1+(len(s)+1)*p.size/64)
	return p.Regexp.MatchString(s)
}
