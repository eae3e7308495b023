package datasets

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// cell is one observed (prompt, arm) until the arms are all known and the table can be laid out.
type cell struct {
	prompt, arm            int32
	row                    uint32
	score                  float32
	cost                   catalog.Nanodollars
	input, output, latency float32
	file                   uint16
}

const cellsInChunk = 1 << 14

// builder gathers records into a Table: every string once, prompts and arms in order of first appearance.
type builder struct {
	armGlobs, taskGlobs []string
	globHits            []bool

	arms     []catalog.ArmID
	armIndex map[string]int32
	names    map[string]string
	tasks    map[string]bool

	prompts     []Prompt
	promptIndex map[string]int32
	lastID      []byte // of the row before
	last        int32  // its prompt, or -1 where the sample does without it
	sample      sample

	chunks [][]cell
	cells  int
	rows   int64
	files  []fileName
}

// fileName is a file and whether its rows are lines.
type fileName struct {
	name string
	line bool
}

func newBuilder(armGlobs, taskGlobs []string) *builder {
	return &builder{
		armGlobs: armGlobs, taskGlobs: taskGlobs, globHits: make([]bool, len(armGlobs)),
		armIndex: map[string]int32{}, names: map[string]string{}, tasks: map[string]bool{},
		promptIndex: map[string]int32{},
	}
}

func (b *builder) startFile(name string, line bool) {
	b.files = append(b.files, fileName{name, line})
}

// add takes the record that stands at the given row (or line) of the current file.
func (b *builder) add(r *record, row int64) (column, problem string) {
	if column, problem = r.check(); problem != "" {
		return column, problem
	}
	b.rows++
	arm, problem := b.arm(r.text[colModel])
	if problem != "" {
		return "model", problem
	}
	wanted, problem := b.task(r.text[colDataset])
	if problem != "" {
		return "dataset", problem
	}
	if arm < 0 || !wanted {
		return "", ""
	}
	b.sample.rows++
	prompt, column, problem := b.prompt(r)
	if problem != "" || prompt < 0 {
		return column, problem
	}
	if b.cells >= CellsMax || row > math.MaxUint32 {
		return "", fmt.Sprintf("the table has more than %d rows", CellsMax)
	}
	if b.cells%cellsInChunk == 0 {
		b.chunks = append(b.chunks, make([]cell, 0, cellsInChunk))
	}
	k := len(b.chunks) - 1
	b.chunks[k] = append(b.chunks[k], cell{
		prompt: prompt, arm: arm, row: uint32(row),
		score: float32(r.number[colScore].v), cost: r.nanodollars(),
		input: r.number[colInput].float32(), output: r.number[colOutput].float32(), latency: r.number[colLatency].float32(),
		file: uint16(len(b.files) - 1),
	})
	b.cells++
	return "", ""
}

func (n number) float32() float32 {
	if !n.ok {
		return float32(math.NaN())
	}
	return float32(n.v)
}

// arm is the index of a model, or -1 where no glob wants it.
func (b *builder) arm(model string) (int32, string) {
	if i, ok := b.armIndex[model]; ok {
		return i, ""
	}
	if !validName(model) {
		return 0, "it is not UTF-8"
	}
	if len(b.armIndex) == ArmsMax {
		return 0, fmt.Sprintf("the table has more than %d models", ArmsMax)
	}
	model = strings.Clone(model)
	index := int32(-1)
	wanted := len(b.armGlobs) == 0
	for k, glob := range b.armGlobs {
		if hit, _ := path.Match(glob, model); hit {
			wanted, b.globHits[k] = true, true
		}
	}
	if wanted {
		index = int32(len(b.arms))
		b.arms = append(b.arms, catalog.ArmID(model))
	}
	b.armIndex[model] = index
	return index, ""
}

func (b *builder) task(name string) (wanted bool, problem string) {
	if wanted, ok := b.tasks[name]; ok {
		return wanted, ""
	}
	if !validName(name) {
		return false, "it is not UTF-8"
	}
	if len(b.tasks) == TasksMax {
		return false, fmt.Sprintf("the table has more than %d datasets", TasksMax)
	}
	wanted = len(b.taskGlobs) == 0 || slices.ContainsFunc(b.taskGlobs, func(glob string) bool {
		hit, _ := path.Match(glob, name)
		return hit
	})
	b.tasks[strings.Clone(name)] = wanted
	return wanted, ""
}

// prompt is the index of the record's prompt, which must be the same wherever its id stands, or -1 where the sample does
// without it.
func (b *builder) prompt(r *record) (index int32, column, problem string) {
	if id := r.text[colPromptID]; string(b.lastID) != id {
		if !validName(id) {
			return 0, "prompt_id", "it is not UTF-8"
		}
		b.lastID, b.last = append(b.lastID[:0], id...), b.place(r)
	}
	if index = b.last; index < 0 {
		return index, "", ""
	}
	p := &b.prompts[index]
	for _, c := range [...]struct{ name, got, want string }{
		{"prompt", r.text[colPrompt], p.Text}, {"dataset", r.text[colDataset], p.Dataset}, {"split", r.text[colSplit], p.Split},
	} {
		if c.got != c.want {
			return 0, c.name, fmt.Sprintf("prompt_id %q stands with two different values", p.ID)
		}
	}
	return index, "", ""
}

// place finds the prompt that a stretch of rows belongs to, or takes it in.
func (b *builder) place(r *record) int32 {
	id := r.text[colPromptID]
	if i, known := b.promptIndex[id]; known {
		b.sample.again(i)
		return i
	}
	if b.sample.full() {
		b.cut()
	}
	if !b.sample.takes(id) {
		return -1
	}
	i := int32(len(b.prompts))
	p := Prompt{ID: strings.Clone(id), Dataset: b.intern(r.text[colDataset]), Split: b.intern(r.text[colSplit]), Text: strings.Clone(r.text[colPrompt])}
	b.prompts = append(b.prompts, p)
	b.promptIndex[p.ID] = i
	return i
}

// intern keeps one copy of a name. Splits are few in any real table; where they are not, copies do no harm.
func (b *builder) intern(s string) string {
	if kept, ok := b.names[s]; ok {
		return kept
	}
	s = strings.Clone(s)
	if len(b.names) < TasksMax {
		b.names[s] = s
	}
	return s
}

// verify finds what can only be seen at the end: globs that matched nothing, an empty table, one too sparse to hold.
func (b *builder) verify(prompts int) error {
	for k, glob := range b.armGlobs {
		if !b.globHits[k] {
			return fmt.Errorf("datasets: no model of the table matches %q", glob)
		}
	}
	if b.rows == 0 {
		return fmt.Errorf("datasets: the table holds no rows")
	}
	if b.cells == 0 {
		return fmt.Errorf("datasets: none of the table's %d rows matches the filter", b.rows)
	}
	if prompts > CellsMax/len(b.arms) {
		return fmt.Errorf("datasets: %d prompts × %d models are more than %d cells", prompts, len(b.arms), CellsMax)
	}
	return nil
}

// table lays the cells out and finds duplicates.
func (b *builder) table() (*Table, error) {
	order := b.sample.order()
	if err := b.verify(len(order)); err != nil {
		return nil, err
	}
	t := NewTable(b.arms, len(order))
	t.SampledFrom = b.sample.origin(order)
	row := make([]int, len(b.prompts)) // of a prompt, -1 beyond the sample
	for i := range row {
		row[i] = -1
	}
	for k, i := range order {
		row[i], t.Prompts[k] = k, b.prompts[i]
	}
	for n, chunk := range b.chunks {
		b.chunks[n] = nil // what is laid out is not held twice
		for i := range chunk {
			c := &chunk[i]
			at := row[c.prompt]
			if at < 0 {
				continue
			}
			if t.Observed(at, int(c.arm)) {
				return nil, b.duplicate(c)
			}
			k := t.At(at, int(c.arm))
			t.Score[k], t.Cost[k], t.Input[k], t.Output[k], t.Latency[k] = c.score, c.cost, c.input, c.output, c.latency
		}
	}
	return t, nil
}

func (b *builder) duplicate(c *cell) error {
	file := b.files[c.file]
	return &RowError{File: file.name, Row: int64(c.row), Line: file.line, Column: "model",
		Problem: fmt.Sprintf("prompt_id %q has model %q twice", b.prompts[c.prompt].ID, b.arms[c.arm])}
}
