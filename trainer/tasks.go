package trainer

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tradewind-llm/tradewind/datasets"
)

const (
	// tasksMax bounds the tasks that are told apart; the smallest of more are one task named otherTask.
	tasksMax  = 64
	otherTask = "(other)"
	// taskPromptsMin is the least size of a task of its own.
	taskPromptsMin = 5
	// clustersMax and clusterPrompts bound the clusters that stand in for tasks nobody named.
	clustersMax     = 100
	clusterPrompts  = 30
	clusterRounds   = 15
	clusterSoftness = 1.0 / 25
)

// taskSet says which task a prompt belongs to: the table's labels, or soft clusters of similar prompts.
type taskSet struct {
	names       []string
	temperature float64
	class       []int32 // of a prompt, −1 for none
	clusters    bool
	// centroids are columns × clusters: of unit length, or where clusters are taught their weights beside the intercepts
	// bias. Columns that are not there are 0. posterior is prompts × clusters.
	centroids []float32
	bias      []float64
	posterior []float32
}

// newTasks uses the table's labels where at least two tasks and half of the prompts have one, else at most most clusters.
func newTasks(t *datasets.Table, d *design, seed int64, most int) *taskSet {
	count, labelled := map[string]int{}, 0
	for i := range t.Prompts {
		if name := t.Prompts[i].Dataset; name != "" {
			count[name]++
			labelled++
		}
	}
	var names []string
	for name, n := range count {
		if n >= taskPromptsMin {
			names = append(names, name)
		}
	}
	if len(names) < 2 || 2*labelled < len(t.Prompts) {
		return newClusters(d, seed, most)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(count[b]-count[a], cmp.Compare(a, b)) })
	names = names[:min(len(names), tasksMax-1)]
	s := &taskSet{names: names, temperature: 1, class: make([]int32, len(t.Prompts))}
	other := false
	for i := range t.Prompts {
		name := t.Prompts[i].Dataset
		s.class[i] = int32(slices.Index(names, name))
		if s.class[i] < 0 && name != "" {
			s.class[i], other = int32(len(names)), true
		}
	}
	if other {
		s.names = append(slices.Clip(names), otherTask)
	}
	return s
}

// weigh calls add for the tasks of a prompt.
func (s *taskSet) weigh(i int, add func(task int, w float64)) {
	if s.clusters {
		for k, p := range s.posterior[i*len(s.names) : (i+1)*len(s.names)] {
			if p > 1e-3 {
				add(k, float64(p))
			}
		}
	} else if k := s.class[i]; k >= 0 {
		add(int(k), 1)
	}
}

// share is the share of every task among the given prompts.
func (s *taskSet) share(rows []int) []float64 {
	out := make([]float64, len(s.names))
	total := 0.0
	for _, i := range rows {
		s.weigh(i, func(k int, w float64) { out[k] += w; total += w })
	}
	for k := range out {
		out[k] /= max(total, 1)
	}
	return out
}

// newClusters groups prompts by spherical k-means on their text and assigns them softly, softmax(25·cos). Cosines are
// linear in the text, so the centroids serve as the logits' weights.
func newClusters(d *design, seed int64, most int) *taskSet {
	n := d.rows()
	k := max(2, min(most, n/clusterPrompts))
	s := &taskSet{clusters: true, temperature: clusterSoftness, class: make([]int32, n), posterior: make([]float32, n*k)}
	for c := range k {
		s.names = append(s.names, fmt.Sprintf("cluster %03d", c))
	}
	rng := rand.New(rand.NewPCG(uint64(seed), 0x6b6d65616e73)) // "kmeans"
	s.seed(d, rng, k)
	for range clusterRounds {
		s.assign(d, k)
		s.recentre(d, k)
	}
	s.assign(d, k)
	s.soften()
	for i := range s.class {
		s.class[i] = -1 // there is nothing to learn: the centroids are the classifier
	}
	return s
}

// seed picks k prompts as centroids, each with probability proportional to its distance to the nearest so far
// (k-means++, Arthur and Vassilvitskii 2007).
func (s *taskSet) seed(d *design, rng *rand.Rand, k int) {
	s.centroids = make([]float32, d.text()*k)
	near := make([]float64, d.rows())
	dense := make([]float32, d.text())
	pick := rng.IntN(d.rows())
	for c := range k {
		clear(dense)
		for at := d.start[pick]; at < d.start[pick+1]; at++ {
			if int(d.col[at]) < d.text() {
				dense[d.col[at]] = d.val[at]
				s.centroids[int(d.col[at])*k+c] = d.val[at]
			}
		}
		each(d.rows(), func(from, to int) {
			for i := from; i < to; i++ {
				near[i] = max(near[i], d.dot(i, dense))
			}
		})
		total := 0.0
		for _, v := range near {
			total += max(0, 1-v)
		}
		left := rng.Float64() * total
		for i, v := range near {
			if left -= max(0, 1-v); left <= 0 {
				pick = i
				break
			}
		}
	}
}

// dot is the product of a row's text with a dense vector.
func (d *design) dot(i int, dense []float32) float64 {
	v := 0.0
	for at := d.start[i]; at < d.start[i+1]; at++ {
		if c := int(d.col[at]); c < len(dense) {
			v += float64(d.val[at]) * float64(dense[c])
		}
	}
	return v
}

// assign sets posterior to the cosines and class to the nearest centroid.
func (s *taskSet) assign(d *design, k int) {
	each(d.rows(), func(from, to int) {
		for i := from; i < to; i++ {
			row := s.posterior[i*k : (i+1)*k]
			clear(row)
			for at := d.start[i]; at < d.start[i+1]; at++ {
				if c := int(d.col[at]); c < d.text() {
					axpy(d.val[at], s.centroids[c*k:(c+1)*k], row)
				}
			}
			s.class[i] = int32(slices.Index(row, slices.Max(row)))
		}
	})
}

// recentre moves every centroid to the direction of its members' sum; an empty cluster stays.
func (s *taskSet) recentre(d *design, k int) {
	next := make([]float32, len(s.centroids))
	for i, c := range s.class {
		for at := d.start[i]; at < d.start[i+1]; at++ {
			if int(d.col[at]) < d.text() {
				next[int(d.col[at])*k+int(c)] += d.val[at]
			}
		}
	}
	square := make([]float64, k)
	for at, v := range next {
		square[at%k] += float64(v) * float64(v)
	}
	for at, v := range next {
		if q := square[at%k]; q > 0 {
			s.centroids[at] = float32(float64(v) / math.Sqrt(q))
		}
	}
}

// soften turns the posterior's cosines into distributions.
func (s *taskSet) soften() {
	k := len(s.names)
	each(len(s.class), func(from, to int) {
		for i := from; i < to; i++ {
			soften(s.posterior[i*k : (i+1)*k])
		}
	})
}

func soften(row []float32) {
	top, total := slices.Max(row), 0.0
	for c, v := range row {
		row[c] = float32(math.Exp(float64(v-top) / clusterSoftness))
		total += float64(row[c])
	}
	for c := range row {
		row[c] = float32(float64(row[c]) / total)
	}
}

// place writes the centroids over the weights of the task logits.
func (s *taskSet) place(weights []float32, outputs int) {
	k := len(s.names)
	for at := range weights {
		if c, o := at/outputs, at%outputs; o < k {
			weights[at] = 0
			if c*k < len(s.centroids) {
				weights[at] = s.centroids[c*k+o]
			}
		}
	}
}

// intercept is the fixed intercept of the logit of task k.
func (s *taskSet) intercept(k int, share float64) float64 {
	switch {
	case s.bias != nil:
		return s.bias[k]
	case s.clusters:
		return 0
	}
	return math.Log(max(share, 1e-6))
}
