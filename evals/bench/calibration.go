package bench

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

const (
	// eceBins is the number of equal-count bins, eceDraws of label draws that tell what chance alone gives.
	eceBins  = 15
	eceDraws = 200
)

// Bin is one row of a reliability table.
type Bin struct {
	Count     int     `json:"count"`
	Predicted float64 `json:"predicted"`
	Actual    float64 `json:"actual"`
}

// Calibration says whether the predicted qualities of one arm mean what they say.
type Calibration struct {
	// ECE is the mean distance between predicted and actual quality over equal-count bins, Chance what it would be on
	// average if the predictions were the truth, Excess = ECE − Chance. Only the excess is worth a goal.
	ECE, Chance, Excess float64
	// Brier is the mean squared distance of prediction and score.
	Brier float64
	Bins  []Bin
}

// Calibrate compares the predicted qualities of arm j with its scores. It is nil where one is missing.
// Predictions that are equal are ordered by prompt id.
func Calibrate(m *Matrix, p *Predictions, j int, seed uint64) *Calibration {
	width := len(m.Arms)
	order := make([]int, m.N())
	for i := range order {
		if p.Quality == nil || math.IsNaN(p.Quality[i*width+j]) {
			return nil
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if by := cmp.Compare(p.Quality[a*width+j], p.Quality[b*width+j]); by != 0 {
			return by
		}
		return cmp.Compare(m.IDs[a], m.IDs[b])
	})
	predicted, actual := make([]float64, len(order)), make([]float64, len(order))
	c := &Calibration{}
	for k, i := range order {
		predicted[k], actual[k] = p.Quality[i*width+j], m.Score[i*width+j]
		d := predicted[k] - actual[k]
		c.Brier += d * d / float64(len(order))
	}
	c.Bins = make([]Bin, min(eceBins, len(order)))
	c.ECE = reliability(predicted, actual, c.Bins)
	rng := rand.New(rand.NewPCG(seed, uint64(j)))
	bins := make([]Bin, len(c.Bins))
	for range eceDraws {
		for k, q := range predicted {
			actual[k] = 0
			if rng.Float64() < q {
				actual[k] = 1
			}
		}
		c.Chance += reliability(predicted, actual, bins) / eceDraws
	}
	c.Excess = c.ECE - c.Chance
	return c
}

// reliability fills equal-count bins of sorted predictions and returns the expected calibration error.
func reliability(predicted, actual []float64, bins []Bin) float64 {
	n, ece := len(predicted), 0.0
	for b := range bins {
		from, to := b*n/len(bins), (b+1)*n/len(bins)
		sumP, sumA := 0.0, 0.0
		for k := from; k < to; k++ {
			sumP, sumA = sumP+predicted[k], sumA+actual[k]
		}
		count := float64(to - from)
		bins[b] = Bin{to - from, sumP / count, sumA / count}
		ece += math.Abs(sumP-sumA) / float64(n)
	}
	return ece
}

// TokensRMSE is the root mean squared error of the natural logarithm of arm j's output tokens, over the n prompts where
// both are known. It is NaN where there are none. Counts below one are taken as one.
func TokensRMSE(m *Matrix, p *Predictions, j int) (rmse float64, n int) {
	if p.Tokens == nil {
		return math.NaN(), 0
	}
	sum := 0.0
	for at := j; at < len(m.Tokens); at += len(m.Arms) {
		d := math.Log(max(p.Tokens[at], 1)) - math.Log(max(m.Tokens[at], 1))
		if !math.IsNaN(d) {
			sum += d * d
			n++
		}
	}
	return math.Sqrt(sum / float64(n)), n
}
