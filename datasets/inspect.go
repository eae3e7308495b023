package datasets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/columnar"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Inspection is what Inspect found. The kinds are "table", "part" (one sealed file) and "log".
type Inspection struct {
	Path   string `json:"path"`
	Kind   string `json:"kind"`
	SHA256 string `json:"sha256,omitempty"`
	Bytes  int64  `json:"bytes"`
	// Verified says that a manifest confirms every byte that was read.
	Verified bool `json:"verified"`
	Parts    int  `json:"parts,omitempty"`
	// Files are the live parts of a log: what to read where the files of the moment must be exactly the rows of a moment.
	Files []string `json:"files,omitempty"`
	// Superseded counts the parts that were compacted or dropped, Leftovers are those of their files that are still there.
	Superseded int64    `json:"superseded,omitempty"`
	Leftovers  []string `json:"leftovers,omitempty"`
	// Orphans are files in a log's folders that its manifest does not know.
	Orphans      []string `json:"orphans,omitempty"`
	Rows         int64    `json:"rows"`
	Prompts      int64    `json:"prompts"`
	UnknownCosts int64    `json:"unknown_costs"`
	Feedback     int64    `json:"feedback,omitempty"`
	// PromptBytes describes the prompts whose text is there.
	PromptBytes *Sizes       `json:"prompt_bytes,omitempty"`
	From        *time.Time   `json:"from,omitempty"`
	To          *time.Time   `json:"to,omitempty"`
	Explored    *float64     `json:"explored,omitempty"`
	Statuses    []Count      `json:"statuses,omitempty"`
	Arms        []ArmSummary `json:"arms"`
	Tasks       []Count      `json:"tasks,omitempty"`
}

// Count is how often a name stands in a column.
type Count struct {
	Name string `json:"name"`
	N    int64  `json:"n"`
}

// Sizes are quantiles of a length.
type Sizes struct {
	Median int `json:"median"`
	P95    int `json:"p95"`
	Max    int `json:"max"`
}

// ArmSummary is what a table says of one arm. The means are nil where there is nothing to take the mean of; that of
// the cost is over known costs alone. In a log the score is the mean over rounds of their feedback.
type ArmSummary struct {
	Arm          catalog.ArmID `json:"model"`
	Rows         int64         `json:"rows"`
	Scored       int64         `json:"scored"`
	MeanScore    *float64      `json:"mean_score"`
	MeanCostUSD  *float64      `json:"mean_cost_usd"`
	UnknownCosts int64         `json:"unknown_costs"`

	scores, cost float64
}

// Inspect describes an outcome table (a file, folder or glob, as for ReadTable), a sealed part or a log's folder.
func Inspect(ctx context.Context, path string) (*Inspection, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir() && IsLog(path):
		return inspectLog(ctx, path)
	case err == nil && info.Mode().IsRegular() && fileKind(path) == parquetFile && isPart(path, info.Size()):
		return inspectPart(ctx, path)
	}
	return inspectTable(ctx, path)
}

// tally gathers rows of any kind.
type tally struct {
	out     Inspection
	arms    map[string]*ArmSummary
	tasks   map[string]int64
	status  map[string]int64
	sizes   []int32
	first   int64
	last    int64
	explore int64
}

func newTally(path, kind string) *tally {
	return &tally{out: Inspection{Path: path, Kind: kind}, arms: map[string]*ArmSummary{}, tasks: map[string]int64{}, status: map[string]int64{}}
}

func (t *tally) arm(model string) *ArmSummary {
	a := t.arms[model]
	if a == nil {
		a = &ArmSummary{Arm: catalog.ArmID(model)}
		t.arms[model] = a
	}
	return a
}

// add takes one row of one arm; NaN is unknown.
func (t *tally) add(a *ArmSummary, score, costUSD float64) {
	t.out.Rows++
	a.Rows++
	if !math.IsNaN(score) {
		a.Scored++
		a.scores += score
	}
	if math.IsNaN(costUSD) {
		a.UnknownCosts++
		t.out.UnknownCosts++
	} else {
		a.cost += costUSD
	}
}

// roundRow is what is told of a round.
type roundRow struct {
	model, status, dataset string
	score, costUSD         float64
	explored               bool
	at                     int64
	promptBytes            int
}

func (t *tally) addRound(r roundRow) {
	t.add(t.arm(r.model), r.score, r.costUSD)
	t.status[r.status]++
	t.out.Prompts++
	if r.dataset != "" {
		t.tasks[r.dataset]++
	}
	if r.promptBytes > 0 {
		t.sizes = append(t.sizes, int32(min(r.promptBytes, math.MaxInt32)))
	}
	if t.out.Rows == 1 {
		t.first, t.last = r.at, r.at
	}
	t.first, t.last = min(t.first, r.at), max(t.last, r.at)
	if r.explored {
		t.explore++
	}
}

func (t *tally) finish() *Inspection {
	out := &t.out
	for _, a := range t.arms {
		if a.Scored > 0 {
			mean := a.scores / float64(a.Scored)
			a.MeanScore = &mean
		}
		if known := a.Rows - a.UnknownCosts; known > 0 {
			mean := a.cost / float64(known)
			a.MeanCostUSD = &mean
		}
		out.Arms = append(out.Arms, *a)
	}
	slices.SortFunc(out.Arms, func(a, b ArmSummary) int {
		return cmp.Or(cmp.Compare(deref(b.MeanScore), deref(a.MeanScore)), cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.Arm, b.Arm))
	})
	out.Tasks, out.Statuses = counts(t.tasks), counts(t.status)
	if n := len(t.sizes); n > 0 {
		slices.Sort(t.sizes)
		out.PromptBytes = &Sizes{Median: int(t.sizes[n/2]), P95: int(t.sizes[n*95/100]), Max: int(t.sizes[n-1])}
	}
	if out.Kind != "table" && out.Rows > 0 {
		from, to, share := fromMicros(t.first), fromMicros(t.last), float64(t.explore)/float64(out.Rows)
		out.From, out.To, out.Explored = &from, &to, &share
	}
	return out
}

// counts lists the most frequent first.
func counts(m map[string]int64) []Count {
	var out []Count
	for name, n := range m {
		out = append(out, Count{name, n})
	}
	slices.SortFunc(out, func(a, b Count) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Name, b.Name)) })
	return out
}

func inspectTable(ctx context.Context, path string) (*Inspection, error) {
	var size int64
	table, err := ReadTable(ctx, path, ReadOptions{Progress: func(_, total int64) { size = total }})
	if err != nil {
		return nil, err
	}
	t := newTally(path, "table")
	t.out.SHA256, t.out.Bytes, t.out.Prompts = table.SHA256, size, int64(len(table.Prompts))
	arms := make([]*ArmSummary, len(table.Arms))
	for j, id := range table.Arms {
		arms[j] = t.arm(string(id))
	}
	for i, p := range table.Prompts {
		t.sizes = append(t.sizes, int32(len(p.Text)))
		t.tasks[p.Dataset]++
		for j := range table.Arms {
			if !table.Observed(i, j) {
				continue
			}
			k, cost := table.At(i, j), math.NaN()
			if table.Cost[k] != Unpriced {
				cost = table.Cost[k].Dollars()
			}
			t.add(arms[j], float64(table.Score[k]), cost)
		}
	}
	return t.finish(), nil
}

// isPart reports whether a Parquet file has the columns of a sealed part.
func isPart(path string, size int64) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	file, err := openParquet(f, size)
	return err == nil && file.Root().Column("round_id") != nil && file.Root().Column("case") != nil
}

// inspectPart reads one sealed file. Where the log it lies in vouches for it, the bytes must be those sealed.
func inspectPart(ctx context.Context, path string) (*Inspection, error) {
	t := newTally(path, "part")
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("datasets: %w", err)
	}
	defer f.Close()
	if t.out.SHA256, t.out.Bytes, err = hashFile(ctx, f); err != nil {
		return nil, fmt.Errorf("datasets: reading %s: %w", path, err)
	}
	p, err := partOf(path)
	if err != nil {
		return nil, err
	}
	if p != nil {
		if p.SHA256 != t.out.SHA256 {
			return nil, &VerifyError{Path: p.Path, Line: p.Seq, Err: errors.New("it was altered")}
		}
		t.out.Verified = true
	}
	err = readRows(f, t.out.Bytes, (*partRow).round, func(batch []Round) error {
		for i := range batch {
			t.addRound(viewOf(&batch[i]))
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("datasets: reading %s: %w", path, err)
	}
	return t.finish(), nil
}

// partOf finds the manifest line of a file that lies where a log keeps its parts (kind/dt=/hour=/file), or nil.
func partOf(path string) (*Part, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("datasets: %w", err)
	}
	dir := filepath.Join(path, "..", "..", "..", "..")
	if !IsLog(dir) {
		return nil, nil
	}
	l, err := OpenLog(dir, LogOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	for _, p := range l.Parts() {
		if l.file(&p) == path {
			return &p, nil
		}
	}
	return nil, nil
}

func viewOf(r *Round) roundRow {
	v := roundRow{
		model: string(r.Outcome.Served), status: string(r.Outcome.Status), score: math.NaN(), costUSD: math.NaN(),
		explored: r.Decision.Explored, at: r.Decision.At.UnixMicro(), promptBytes: len(r.Decision.Prompt),
	}
	if s := r.Outcome.CostStatus; s == CostFinal || s == CostEstimated {
		v.costUSD = r.Outcome.Cost.Dollars()
	}
	return v
}

func inspectLog(ctx context.Context, dir string) (*Inspection, error) {
	l, err := OpenLog(dir, LogOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	t := newTally(dir, "log")
	t.out.Verified = true
	if t.out.Orphans, err = l.Orphans(); err != nil {
		return nil, err
	}
	if t.out.Leftovers, err = l.Leftovers(); err != nil {
		return nil, err
	}
	t.out.Superseded = l.Superseded()
	for _, p := range l.Parts() {
		t.out.Parts++
		t.out.Files = append(t.out.Files, p.Path)
		t.out.Bytes += p.Bytes
	}
	feedback, err := l.LastFeedback(ctx)
	if err != nil {
		return nil, err
	}
	for _, all := range feedback {
		t.out.Feedback += int64(len(all))
	}
	columns := []string{"round_id", "served", "status", "dataset", "cost_usd", "explored", "at", "prompt"}
	err = l.Columns(ctx, columns, func(b *columnar.Batch) error {
		c := b.Columns
		for i := range b.Rows {
			r := roundRow{
				model: c[1].Strings[i], status: c[2].Strings[i], dataset: c[3].Strings[i], costUSD: c[4].Floats[i],
				explored: c[5].Bools[i], at: c[6].Ints[i], promptBytes: len(c[7].Strings[i]),
				score: meanFeedback(feedback[RoundID(c[0].Strings[i])]),
			}
			if c[4].Null[i] {
				r.costUSD = math.NaN()
			}
			t.addRound(r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t.finish(), nil
}

func meanFeedback(all []Feedback) float64 {
	sum := 0.0
	for _, f := range all {
		sum += f.Score
	}
	return sum / float64(len(all))
}
