package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The house rules that a test can check. They walk the source of the whole module.

const (
	module       = "github.com/tradewind-llm/tradewind"
	fileLinesMax = 500
	testLinesMax = 800
	funcLinesMax = 70
)

// layers is the import order: a package may import only packages of the layers above its own in this list.
var layers = [][]string{
	0: {"models/catalog", "features/tokenizer", "evals/ope", "serving/speed", "serving/telemetry", "datasets/columnar", "datasets/disk"},
	1: {"features", "models", "classifier/policy", "datasets/disk/frame", "serving/governance"},
	2: {"datasets", "classifier", "serving/openai", "serving/quota"},
	3: {
		"datasets/reward", "datasets/simulate", "evals/bench", "trainer/schedule",
		"serving/anthropic", "serving/journal", "serving/ledger", "serving/responses", "serving/session", "serving/telemetry/otlp", "serving/upstream",
	},
	4: {"evals", "serving/idempotency", "serving/rules", "serving/upstream/chatform", "serving/upstream/httpclient"},
	5: {"serving/admin", "serving/console", "serving/gate", "serving/judge", "serving/sqlstore", "serving/upstream/*"},
	6: {"serving", "trainer"},
	7: {"serving/aside", "serving/servingtest"},
	8: {"cmd/tradewind"},
}

// forbidden edges hold whatever the layers say.
var forbidden = []struct{ from, to, reason string }{
	{"serving", "trainer", "serving never trains: a run is a child process that cannot slow a request"},
	{"serving", "evals", "serving never evaluates: reports are made offline and served as bytes"},
	{"features", "serving", "features are the same offline and online, so they cannot know the wire"},
	{"classifier", "serving", "the classifier is evaluated offline, where there is no server"},
	{"datasets", "serving", "tables are read where nothing serves"},
	{"models", "serving", "artifacts are checked where nothing serves"},
	{"evals", "serving", "reports are made where nothing serves"},
	{"trainer", "serving", "training runs where nothing serves"},
}

// source is one parsed file of the module.
type source struct {
	path string // relative to the module's root, with slashes
	pkg  string // folder relative to the module's root
	test bool
	text []byte
	file *ast.File
}

func sources(t *testing.T) (*token.FileSet, []source) {
	t.Helper()
	fset := token.NewFileSet()
	var all []source
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || rel == "zz") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{rel, filepath.ToSlash(filepath.Dir(rel)), strings.HasSuffix(rel, "_test.go"), text, f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go files found: the walk is broken")
	}
	return fset, all
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	_, all := sources(t)
	docs := map[string]int{}
	for _, s := range all {
		if s.test {
			continue
		}
		if _, ok := docs[s.pkg]; !ok {
			docs[s.pkg] = 0
		}
		if s.file.Doc != nil && len(strings.TrimSpace(s.file.Doc.Text())) > 40 {
			docs[s.pkg]++
		}
	}
	for pkg, n := range docs {
		if n != 1 {
			t.Errorf("%s has %d package comments, want one that says what it is for and what it is not", pkg, n)
		}
	}
}

func TestEveryExportedNameIsDocumented(t *testing.T) {
	fset, all := sources(t)
	for _, s := range all {
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			for _, id := range undocumented(d) {
				t.Errorf("%s: %s has no doc comment", fset.Position(id.Pos()), id.Name)
			}
		}
	}
}

// undocumented lists the exported names that d declares without a comment. A comment on a group of constants or
// variables covers the group.
func undocumented(d ast.Decl) []*ast.Ident {
	var missing []*ast.Ident
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && receiverExported(d) {
			missing = append(missing, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if d.Doc == nil && spec.Doc == nil && spec.Name.IsExported() {
					missing = append(missing, spec.Name)
				}
			case *ast.ValueSpec:
				for _, n := range spec.Names {
					if d.Doc == nil && spec.Doc == nil && spec.Comment == nil && n.IsExported() {
						missing = append(missing, n)
					}
				}
			}
		}
	}
	return missing
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

func TestFilesAndFunctionsFitTheirScreen(t *testing.T) {
	fset, all := sources(t)
	for _, s := range all {
		limit := fileLinesMax
		if s.test {
			limit = testLinesMax
		}
		if n := bytes.Count(s.text, []byte("\n")); n > limit {
			t.Errorf("%s has %d lines, want at most %d", s.path, n, limit)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; n > funcLinesMax {
				t.Errorf("%s: %s has %d lines, want at most %d", s.path, f.Name.Name, n, funcLinesMax)
			}
		}
	}
}

func TestNoInitAndNoOptionsByFunction(t *testing.T) {
	_, all := sources(t)
	for _, s := range all {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s has an init function: wiring belongs in cmd/tradewind, tables in their declaration", s.path)
			}
		}
	}
}

func TestImportsRunOneWay(t *testing.T) {
	_, all := sources(t)
	arrow := map[string]bool{}
	for _, s := range all {
		for _, imp := range s.file.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(path, "github.com/apache/arrow/") && !s.test {
				arrow[s.path] = true
			}
			to, ok := strings.CutPrefix(path, module+"/")
			if !ok || (s.test && strings.HasSuffix(s.file.Name.Name, "_test")) {
				continue
			}
			checkEdge(t, s, to)
		}
	}
	if len(arrow) > 3 {
		t.Errorf("arrow is imported by %d files, want at most 3: its import path will change with its next major version", len(arrow))
	}
}

func checkEdge(t *testing.T, s source, to string) {
	t.Helper()
	if s.pkg == to {
		return
	}
	for _, f := range forbidden {
		if within(s.pkg, f.from) && within(to, f.to) {
			t.Errorf("%s imports %s: %s", s.path, to, f.reason)
		}
	}
	if s.test {
		return // tests of a package may look anywhere that is not forbidden
	}
	from, target := layerOf(s.pkg), layerOf(to)
	switch {
	case from < 0:
		t.Errorf("%s stands in no layer: name its package in the list of layers", s.path)
	case target < 0:
		t.Errorf("%s imports %s, which stands in no layer", s.path, to)
	case target >= from:
		t.Errorf("%s (layer %d) imports %s (layer %d): imports run only to lower layers; declare what is needed where it is needed and pass it in from cmd/tradewind", s.path, from, to, target)
	}
}

func within(pkg, root string) bool { return pkg == root || strings.HasPrefix(pkg, root+"/") }

func layerOf(pkg string) int {
	for i, l := range layers {
		if slices.Contains(l, pkg) {
			return i
		}
	}
	for i, l := range layers {
		for _, p := range l {
			if prefix, ok := strings.CutSuffix(p, "/*"); ok && strings.HasPrefix(pkg, prefix+"/") {
				return i
			}
		}
	}
	// A conformance suite stands beside the contract that it tests and may use what its users use.
	if strings.HasSuffix(pkg, "test") {
		if l := layerOf(filepath.ToSlash(filepath.Dir(pkg))); l >= 0 {
			return l + 1
		}
	}
	return -1
}
