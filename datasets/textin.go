package datasets

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// textSource reads CSV or JSONL; rename maps the file's names to ours, lineMax is LineBytesMax but for tests.
type textSource struct {
	name    string
	lineMax int
	rename  map[string]string
	take    func(r *record, line int64) (column, problem string)
}

func (s *textSource) fail(line int64, column, format string, args ...any) error {
	return &RowError{File: s.name, Row: line, Line: true, Column: column, Problem: fmt.Sprintf(format, args...)}
}

// column is the index of the column that a file calls name, or -1 for one of the round log's; an error if it is neither.
func (s *textSource) column(name string) (int, error) {
	ours := name
	if to, ok := s.rename[name]; ok {
		ours = to
	}
	c := columnOf(ours)
	if c < 0 && !slices.Contains(roundColumns(), ours) {
		return 0, fmt.Errorf("column %q is unknown", name)
	}
	return c, nil
}

func missing(seen *[numColumns]bool) (column string) {
	for c, spec := range tableColumns {
		if spec.required && !seen[c] {
			return spec.name
		}
	}
	return ""
}

// errRecordTooLong ends the reading of a CSV record that would never end.
var errRecordTooLong = errors.New("a record is longer than LineBytesMax")

// allowance lets through a bounded number of bytes between two calls of refill.
type allowance struct {
	r    io.Reader
	left int
}

func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, errRecordTooLong
	}
	n, err := a.r.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}

// readCSV reads a file with a header line. An empty field is null.
func (s *textSource) readCSV(ctx context.Context, r io.Reader) error {
	limited := &allowance{r: r, left: s.lineMax}
	in := csv.NewReader(limited)
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("datasets: reading %s: the file is empty", s.name)
	}
	if err != nil {
		return s.csvError(err)
	}
	header[0] = strings.TrimPrefix(header[0], "\ufeff")
	columns, err := s.header(header)
	if err != nil {
		return err
	}
	in.ReuseRecord = true
	var rec record
	for n := 0; ; n++ {
		if n%batchRows == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		limited.left = s.lineMax
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.csvError(err)
		}
		for i, c := range columns {
			if c < 0 {
				continue
			}
			if problem := rec.setText(c, fields[i]); problem != "" {
				line, _ := in.FieldPos(i)
				return s.fail(int64(line), tableColumns[c].name, "%s", problem)
			}
		}
		line, _ := in.FieldPos(0)
		if column, problem := s.take(&rec, int64(line)); problem != "" {
			return s.fail(int64(line), column, "%s", problem)
		}
	}
}

func (s *textSource) header(names []string) ([]int, error) {
	var seen [numColumns]bool
	columns := make([]int, len(names))
	for i, name := range names {
		c, err := s.column(name)
		if err != nil {
			return nil, s.fail(1, "", "%v", err)
		}
		if columns[i] = c; c < 0 {
			continue
		}
		if seen[c] {
			return nil, s.fail(1, tableColumns[c].name, "it stands there twice")
		}
		seen[c] = true
	}
	if name := missing(&seen); name != "" {
		return nil, s.fail(1, name, "it is missing")
	}
	return columns, nil
}

func (s *textSource) csvError(err error) error {
	var syntax *csv.ParseError
	if errors.As(err, &syntax) {
		return s.fail(int64(syntax.Line), "", "byte %d: %v", syntax.Column, syntax.Err)
	}
	return fmt.Errorf("datasets: reading %s: %w", s.name, err)
}

// readJSONL reads one object a line; blank lines are passed over.
func (s *textSource) readJSONL(ctx context.Context, r io.Reader) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, min(64<<10, s.lineMax)), s.lineMax)
	line, objects := int64(0), 0
	var rec record
	for in.Scan() {
		line++
		if line%batchRows == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		text := in.Bytes()
		if line == 1 {
			text = bytes.TrimPrefix(text, []byte("\ufeff"))
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		objects++
		column, problem := s.object(text, &rec)
		if problem == "" {
			column, problem = s.take(&rec, line)
		}
		if problem != "" {
			return s.fail(line, column, "%s", problem)
		}
	}
	if err := in.Err(); errors.Is(err, bufio.ErrTooLong) {
		return s.fail(line+1, "", "it is longer than %d bytes", s.lineMax)
	} else if err != nil {
		return fmt.Errorf("datasets: reading %s: %w", s.name, err)
	}
	if objects == 0 {
		return fmt.Errorf("datasets: reading %s: the file is empty", s.name)
	}
	return nil
}

// object decodes one line token by token, so that names are compared exactly and a repeated one is seen.
func (s *textSource) object(text []byte, rec *record) (column, problem string) {
	*rec = record{}
	if !utf8.Valid(text) {
		return "", "it is not UTF-8"
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	broken := func(err error) string {
		return fmt.Sprintf("byte %d: %v", dec.InputOffset()+1, noEOF(err))
	}
	if t, err := dec.Token(); err != nil {
		return "", broken(err)
	} else if t != json.Delim('{') {
		return "", "want an object"
	}
	var seen [numColumns]bool
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return "", broken(err)
		}
		c, err := s.column(key.(string))
		if err != nil {
			return "", fmt.Sprintf("byte %d: %v", dec.InputOffset()+1, err)
		}
		if c < 0 {
			var ignored json.RawMessage
			if err := dec.Decode(&ignored); err != nil {
				return "", broken(err)
			}
			continue
		}
		name := tableColumns[c].name
		if seen[c] {
			return name, "it stands there twice"
		}
		seen[c] = true
		value, err := dec.Token()
		if err != nil {
			return name, broken(err)
		}
		if problem := setJSON(rec, c, value); problem != "" {
			return name, problem
		}
	}
	if _, err := dec.Token(); err != nil {
		return "", broken(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return "", fmt.Sprintf("byte %d: something follows the object", dec.InputOffset()+1)
	}
	return missingField(&seen)
}

func missingField(seen *[numColumns]bool) (column, problem string) {
	if name := missing(seen); name != "" {
		return name, "it is missing"
	}
	return "", ""
}

func setJSON(rec *record, c int, value json.Token) (problem string) {
	isText := tableColumns[c].kind == kindString
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		if isText {
			return rec.setText(c, v)
		}
	case json.Number:
		if !isText {
			return rec.setText(c, v.String())
		}
	}
	return fmt.Sprintf("want %s, got %s", tableColumns[c].kind, jsonKind(value))
}

func jsonKind(value json.Token) string {
	switch value.(type) {
	case string:
		return "string"
	case json.Number:
		return "number"
	case bool:
		return "boolean"
	case json.Delim:
		return "object or array"
	}
	return "null"
}
