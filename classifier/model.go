package classifier

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Limits of a model. What exceeds them is refused before any memory is set aside for it.
const (
	ArmsMax      = 2048
	TasksMax     = 256
	BinsMax      = 256
	GoldenMax    = 64
	targetsMax   = 16
	tableCellMax = 1 << 24
)

// NumDense is the number of dense inputs: the standardized flags, then their standardized squares.
const NumDense = 2 * features.NumFlags

// FormatVersion is the version of the sections. Open refuses any other.
const FormatVersion = 2

// ErrInvalid says that a model contradicts itself or this program; what is damaged on disk is models.ErrCorrupt.
var ErrInvalid = errors.New("classifier: invalid model")

// Model is a trained router as plain values: package trainer makes it, Sections writes it and New puts it to work.
// Its m arms, K tasks and B length bins fix the shape of everything else.
type Model struct {
	Router  Router
	Weights Weights
	Tables  Tables
	// Tokenizer is the tokenizer.json that the features were extracted with.
	Tokenizer []byte
	Golden    []Golden
}

// Router is the small part of a model, the one that people read (section router.json).
type Router struct {
	Format     int             `json:"format"`
	SpecDigest string          `json:"spec_digest"`
	Arms       []catalog.ArmID `json:"arms"`
	// Fallback is the best single arm of the training rows; Reference are the arms that complexity is measured on.
	Fallback  catalog.ArmID   `json:"fallback"`
	Reference []catalog.ArmID `json:"reference"`
	// Tasks names the K tasks. Where Clusters is true nobody had named any, and they are clusters of similar prompts.
	Tasks       []string `json:"tasks"`
	Clusters    bool     `json:"clusters"`
	Temperature float64  `json:"temperature"`
	// Spread scales the deviations that decisions compare. Score and Quality are the stack's weights for decisions and
	// for people, Tokens those of the token forecast.
	Spread  float64    `json:"spread"`
	Score   Stack      `json:"score"`
	Quality Stack      `json:"quality"`
	Tokens  TokenStack `json:"tokens"`
	Targets []Target   `json:"targets"`
	Shift   Shift      `json:"shift"`
	// Novelty says of every task what entropy of the posterior is usual; empty where training kept no reference.
	Novelty []TaskEntropy `json:"novelty,omitempty"`
	// Teams are those with a history of their own, ascending; the rows of Tables.History are theirs.
	Teams []Team       `json:"teams,omitempty"`
	Train TrainingSize `json:"training"`
}

// Stack weighs the three predictors of a score.
type Stack struct {
	Task   float64 `json:"task"`
	Head   float64 `json:"head"`
	Length float64 `json:"length"`
}

// Shift is the setting for traffic unlike the training rows. The task mix alone decides, with the weight Task. Where
// Follow is false no arm stands above the anchor: others serve where they are cheaper and their score allows it.
type Shift struct {
	Task float64 `json:"task"`
	// Anchor is the arm with the best mean score. The fallback, which may be a cheaper arm within the noise, would hold
	// that one down too.
	Anchor catalog.ArmID `json:"anchor"`
	Follow bool          `json:"follow"`
	// Gain is what the mix gained over the best single arm on simulated unseen tasks, and GainErr its standard error; both
	// are 0 where tasks were too few or had no names.
	Gain    float64  `json:"gain"`
	GainErr float64  `json:"gain_err"`
	Targets []Target `json:"targets"`
}

// TokenStack weighs the two predictors of the logarithm of an answer's tokens.
type TokenStack struct {
	Task float64 `json:"task"`
	Head float64 `json:"head"`
}

// Target is the price of a dollar that a strategy uses: the largest Lambda at which the mean score stays at or above
// Target times the fallback's. Certified says that this was shown with confidence 0.95 on prompts exchangeable with
// the training table; otherwise it is the best guess.
type Target struct {
	Strategy  string  `json:"strategy"`
	Target    float64 `json:"target"`
	Lambda    float64 `json:"lambda"`
	Certified bool    `json:"certified"`
}

// TrainingSize counts what a model was trained on.
type TrainingSize struct {
	Prompts int   `json:"prompts"`
	Cells   int   `json:"cells"`
	Folds   int   `json:"folds"`
	Seed    int64 `json:"seed"`
}

// Weights holds one row of 8-bit weights for every kept bucket (section weights.bin). The outputs of a row are the K
// task logits, the m score heads and the m token heads.
type Weights struct {
	// Buckets are the kept buckets, ascending, and IDF their inverse document frequencies.
	Buckets []uint16
	IDF     []float32
	// Cells are len(Buckets) × outputs weights in −127..127; output o's unit is Tables.Scale[o].
	Cells []int8
}

// Table is a matrix of float64, row-major.
type Table struct {
	Rows, Cols int
	Data       []float64
}

// NewTable makes a table of zeros.
func NewTable(rows, cols int) Table {
	return Table{Rows: rows, Cols: cols, Data: make([]float64, rows*cols)}
}

// Row is the i-th row, shared with the table.
func (t *Table) Row(i int) []float64 { return t.Data[i*t.Cols : (i+1)*t.Cols] }

// Tables are all dense parameters of a model (section tables.bin), in one layout.
type Tables struct {
	// DenseMean and DenseScale (1 × NumDense) standardize the flags and their squares; DenseScale holds the weight of
	// an input divided by its standard deviation, so 0 switches one off.
	DenseMean, DenseScale Table
	// Bias, Scale (1 × outputs) and Dense (NumDense × outputs) complete the linear outputs.
	Bias, Scale, Dense Table
	// Task (K × m) is the mean score of a task, shrunk; TaskVar its sampling variance. Gap and GapVar are the same for
	// the difference to the fallback on the same prompts. TokenTask is the mean logarithm of output tokens.
	Task, TaskVar, Gap, GapVar, TokenTask Table
	// TokenSlope (K·NumDense × m, or 0 × m) is what each dense input adds to TokenTask within a task.
	TokenSlope Table
	// Edges (1 × B−1) are the bounds of the length bins in bytes and Length (B × m) their mean scores, shrunk.
	Edges, Length Table
	// Mean (1 × m) is an arm's mean score. PlattA and PlattB map logit(quality) to the calibrated logit.
	Mean, PlattA, PlattB Table
	// TokenMean (1 × m) is the mean logarithm of output tokens, TokenLow and TokenHigh the range of forecasts; Smear
	// turns exp(forecast) into an expectation and Upper into the 0.9 quantile. Smear 0 marks unknown lengths.
	TokenMean, TokenLow, TokenHigh, Smear, Upper Table
	// History (teams × m) is what a team's own outcomes add to the quality of an arm, shrunk; HistoryVar its sampling
	// variance. A model without teams has neither.
	History, HistoryVar Table
}

// namedTable is one entry of tables.bin with the shape that the router's dimensions demand.
type namedTable struct {
	name       string
	table      *Table
	rows, cols int
}

// Outputs is the number of linear outputs: K + 2m.
func (m *Model) Outputs() int { return len(m.Router.Tasks) + 2*len(m.Router.Arms) }

// list is the order of tables.bin; encoding, decoding and validation all follow it.
func (m *Model) list() []namedTable {
	t, arms, tasks, outputs := &m.Tables, len(m.Router.Arms), len(m.Router.Tasks), m.Outputs()
	bins, slopes := t.Length.Rows, 0
	if t.TokenSlope.Rows > 0 {
		slopes = tasks * NumDense
	}
	tables := []namedTable{
		{"dense_mean", &t.DenseMean, 1, NumDense}, {"dense_scale", &t.DenseScale, 1, NumDense},
		{"bias", &t.Bias, 1, outputs}, {"scale", &t.Scale, 1, outputs}, {"dense", &t.Dense, NumDense, outputs},
		{"task", &t.Task, tasks, arms}, {"task_var", &t.TaskVar, tasks, arms},
		{"gap", &t.Gap, tasks, arms}, {"gap_var", &t.GapVar, tasks, arms}, {"token_task", &t.TokenTask, tasks, arms},
		{"token_slope", &t.TokenSlope, slopes, arms},
		{"edges", &t.Edges, 1, bins - 1}, {"length", &t.Length, bins, arms},
		{"mean", &t.Mean, 1, arms}, {"platt_a", &t.PlattA, 1, arms}, {"platt_b", &t.PlattB, 1, arms},
		{"token_mean", &t.TokenMean, 1, arms}, {"token_low", &t.TokenLow, 1, arms}, {"token_high", &t.TokenHigh, 1, arms},
		{"smear", &t.Smear, 1, arms}, {"upper", &t.Upper, 1, arms},
	}
	if teams := len(m.Router.Teams); teams > 0 { // else the bytes are those of before there were any
		tables = append(tables, namedTable{"history", &t.History, teams, arms}, namedTable{"history_var", &t.HistoryVar, teams, arms})
	}
	return tables
}

// Clone is a copy whose parameters may be changed; tokenizer, names and golden rows are shared.
func (m *Model) Clone() *Model {
	out := *m
	out.Weights.Cells = slices.Clone(m.Weights.Cells)
	for _, n := range out.list() {
		n.table.Data = slices.Clone(n.table.Data)
	}
	return &out
}

// Validate reports the first contradiction in a model. A model that passes cannot make Estimate panic or divide by
// zero, whatever the context.
func (m *Model) Validate() error {
	for _, check := range []func() error{m.Router.validate, m.Weights.validate, m.validateTables} {
		if err := check(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if got, want := len(m.Weights.Cells), len(m.Weights.Buckets)*m.Outputs(); got != want {
		return fmt.Errorf("%w: %d weights, want %d", ErrInvalid, got, want)
	}
	if len(m.Golden) > GoldenMax {
		return fmt.Errorf("%w: %d golden rows", ErrInvalid, len(m.Golden))
	}
	return nil
}

func (r *Router) validate() error {
	switch spec := features.DefaultSpec().Digest(); {
	case r.Format != FormatVersion:
		return fmt.Errorf("format %d, this program reads %d", r.Format, FormatVersion)
	case r.SpecDigest != spec:
		return fmt.Errorf("features of spec %.80q, this program extracts %q", r.SpecDigest, spec)
	case len(r.Arms) == 0 || len(r.Arms) > ArmsMax:
		return fmt.Errorf("%d arms, want 1 to %d", len(r.Arms), ArmsMax)
	case len(r.Tasks) == 0 || len(r.Tasks) > TasksMax:
		return fmt.Errorf("%d tasks, want 1 to %d", len(r.Tasks), TasksMax)
	case len(r.Reference) == 0 || len(r.Reference) > len(r.Arms):
		return fmt.Errorf("%d reference arms of %d", len(r.Reference), len(r.Arms))
	case len(r.Targets) > targetsMax || len(r.Shift.Targets) > targetsMax:
		return fmt.Errorf("%d and %d targets, want at most %d each", len(r.Targets), len(r.Shift.Targets), targetsMax)
	}
	sorted := slices.Clone(r.Arms)
	slices.Sort(sorted)
	if sorted[0] == "" || len(slices.Compact(sorted)) != len(r.Arms) {
		return errors.New("an arm is empty or stands twice")
	}
	for _, a := range append([]catalog.ArmID{r.Fallback, r.Shift.Anchor}, r.Reference...) {
		if !slices.Contains(r.Arms, a) {
			return fmt.Errorf("%.80q is not an arm", a)
		}
	}
	positive := []float64{r.Temperature, r.Spread}
	weights := []float64{r.Score.Task, r.Score.Head, r.Score.Length, r.Quality.Task, r.Quality.Head, r.Quality.Length, r.Tokens.Task, r.Tokens.Head, r.Shift.Task, r.Shift.GainErr}
	for _, t := range slices.Concat(r.Targets, r.Shift.Targets) {
		weights = append(weights, t.Lambda, t.Target)
	}
	if !inside(positive, 1e-6, 1e6) || !inside(weights, 0, 1e12) || !inside([]float64{r.Shift.Gain}, -1, 1) {
		return errors.New("a weight, a target, the temperature or the spread is out of range")
	}
	return cmp.Or(r.validateNovelty(), r.validateTeams())
}

func (w *Weights) validate() error {
	limit := 2 * features.DefaultSpec().Buckets
	if len(w.IDF) != len(w.Buckets) {
		return fmt.Errorf("%d idf values for %d buckets", len(w.IDF), len(w.Buckets))
	}
	for i, b := range w.Buckets {
		if int(b) >= limit || i > 0 && b <= w.Buckets[i-1] {
			return fmt.Errorf("bucket %d at %d is out of range or order", b, i)
		}
		if idf := w.IDF[i]; !(idf > 0 && idf < 1e3) {
			return fmt.Errorf("idf of bucket %d is %v", b, idf)
		}
	}
	if slices.Contains(w.Cells, math.MinInt8) {
		return errors.New("a weight is -128")
	}
	return nil
}

func (m *Model) validateTables() error {
	if b := m.Tables.Length.Rows; b < 1 || b > BinsMax {
		return fmt.Errorf("%d length bins, want 1 to %d", b, BinsMax)
	}
	const big = 1e9
	for _, n := range m.list() {
		if n.table.Rows != n.rows || n.table.Cols != n.cols || len(n.table.Data) != n.rows*n.cols {
			return fmt.Errorf("table %q is %d x %d with %d cells, want %d x %d", n.name, n.table.Rows, n.table.Cols, len(n.table.Data), n.rows, n.cols)
		}
		low, high := -big, big
		switch n.name {
		case "history":
			low, high = -1, 1
		case "dense_scale", "scale", "task_var", "gap_var", "history_var", "smear", "upper", "edges":
			low = 0
		case "token_low", "token_high", "token_mean":
			low = -50
		}
		if !inside(n.table.Data, low, high) {
			return fmt.Errorf("table %q holds a value that is no number or out of range", n.name)
		}
	}
	for j, low := range m.Tables.TokenLow.Data {
		if high := m.Tables.TokenHigh.Data[j]; high < low || high > 50 {
			return fmt.Errorf("token forecasts of arm %d run from %v to %v", j, low, high)
		}
	}
	for i, edge := range m.Tables.Edges.Data {
		if i > 0 && edge <= m.Tables.Edges.Data[i-1] {
			return errors.New("length bins are out of order")
		}
	}
	return nil
}

// inside reports whether every value is a number from low to high.
func inside(values []float64, low, high float64) bool {
	for _, v := range values {
		if !(v >= low && v <= high) {
			return false
		}
	}
	return true
}
