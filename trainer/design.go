package trainer

import (
	"math"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/features"
)

// design is the training prompts as one sparse matrix, row by row. The columns are the kept buckets, then the dense
// inputs (flags, then their squares). A row's text part has length 1, half of its square in each block.
type design struct {
	start   []int
	col     []uint16
	val     []float32
	bytes   []int32 // of the last user turn
	cols    int
	buckets []uint16
	idf     []float32
	// mean and scale standardize the dense inputs, see classifier.Standardize.
	mean, scale [classifier.NumDense]float64
}

func (d *design) rows() int { return len(d.start) - 1 }

// text is the number of columns that are buckets.
func (d *design) text() int { return len(d.buckets) }

// minFrequency is the least document frequency: what fewer prompts hold teaches nothing; small tables cannot be so strict.
func minFrequency(prompts int) int { return min(10, max(2, prompts/100)) }

// newDesign learns document frequencies and the standardization of flags from contexts, and applies them.
func newDesign(contexts []features.Context) *design {
	d := &design{start: make([]int, 1, len(contexts)+1), bytes: make([]int32, len(contexts))}
	rowOf := d.keep(contexts)
	d.cols = len(d.buckets) + classifier.NumDense
	d.standardize(contexts)
	kept := 0
	for i := range contexts {
		for _, k := range contexts[i].Counts {
			if rowOf[k.Bucket] > 0 {
				kept++
			}
		}
		kept += classifier.NumDense
		d.start = append(d.start, kept)
		d.bytes[i] = int32(min(contexts[i].PromptBytes, math.MaxInt32))
	}
	d.col, d.val = make([]uint16, kept), make([]float32, kept)
	each(len(contexts), func(from, to int) {
		for i := from; i < to; i++ {
			d.fill(i, &contexts[i], rowOf)
		}
	})
	return d
}

// keep counts document frequencies and numbers the buckets that are frequent enough, from 1.
func (d *design) keep(contexts []features.Context) (rowOf []uint16) {
	frequency := make([]int, 2*features.DefaultSpec().Buckets)
	for i := range contexts {
		for _, k := range contexts[i].Counts {
			frequency[k.Bucket]++
		}
	}
	rowOf = make([]uint16, len(frequency))
	n := len(contexts)
	for b, f := range frequency {
		if f >= minFrequency(n) {
			d.buckets = append(d.buckets, uint16(b))
			d.idf = append(d.idf, float32(1+math.Log(float64(1+n)/float64(1+f))))
			rowOf[b] = uint16(len(d.buckets))
		}
	}
	return rowOf
}

// standardize sets mean and scale; an input that hardly varies is switched off.
func (d *design) standardize(contexts []features.Context) {
	n := float64(len(contexts))
	set := func(i int, value func(x *features.Context) float64) {
		sum, square := 0.0, 0.0
		for k := range contexts {
			sum += value(&contexts[k])
		}
		mean := sum / n
		for k := range contexts {
			v := value(&contexts[k]) - mean
			square += v * v
		}
		d.mean[i], d.scale[i] = mean, 0
		if sd := math.Sqrt(square / n); sd > 1e-6 {
			d.scale[i] = classifier.DenseWeight / sd
		}
	}
	for i := range features.NumFlags {
		set(i, func(x *features.Context) float64 { return float64(x.Flags[i]) })
	}
	for i := range features.NumFlags {
		set(features.NumFlags+i, func(x *features.Context) float64 { return classifier.SquareInput(x.Flags[i], d.mean[i], d.scale[i]) })
	}
}

func (d *design) fill(i int, x *features.Context, rowOf []uint16) {
	at := d.start[i]
	first, square := at, 0.0
	boundary := uint16(len(rowOf) / 2)
	scale := func() {
		for k := first; k < at; k++ {
			d.val[k] = float32(float64(d.val[k]) * math.Sqrt(0.5/square))
		}
		first, square = at, 0
	}
	inWords := true
	for _, k := range x.Counts {
		if rowOf[k.Bucket] == 0 {
			continue
		}
		if inWords && k.Bucket >= boundary {
			scale()
			inWords = false
		}
		row := rowOf[k.Bucket] - 1
		v := (1 + math.Log(float64(k.N))) * float64(d.idf[row])
		square += v * v
		d.col[at], d.val[at] = row, float32(v)
		at++
	}
	scale()
	var dense [classifier.NumDense]float64
	classifier.Standardize(&dense, x, d.mean[:], d.scale[:])
	for k, v := range dense {
		d.col[at], d.val[at] = uint16(d.text()+k), float32(v)
		at++
	}
}
