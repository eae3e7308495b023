package serving

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
)

// AutoTraffic leaves the choice of the two settings of policy.Traffic to the novelty of the prompts. It begins with
// policy.KnownMix.
const AutoTraffic policy.Traffic = "auto"

// One task of the known ones that comes alone now and then looks new for a window, so a change takes several in a row,
// and the way back, which risks more, takes longer.
const (
	alarmsToShift = 2
	calmToReturn  = 4
)

// driftWindows is how many windows the mix of tasks is compared over: of fewer prompts, chance alone makes a drift of many tasks.
const driftWindows = 4

// trafficWatch compares the prompts of one router with those that it was trained on, window by window, and chooses the
// setting for the traffic. Requests read and feed it without a lock.
type trafficWatch struct {
	setting policy.Traffic // as the operator wants it
	// router is the one that the windows are measured by.
	router  *classifier.Classifier
	samples int
	window  classifier.Window
	mix     *classifier.Mix
	shifted atomic.Bool // what the windows say

	mu     sync.Mutex // once in a window
	streak int        // windows in a row that speak for a change
	full   int        // windows since the mix was last compared
}

func newTrafficWatch(setting policy.Traffic, c *classifier.Classifier) *trafficWatch {
	w := &trafficWatch{setting: setting, router: c}
	if c != nil {
		w.samples, w.mix = c.NoveltySamples(), c.NewMix()
	}
	return w
}

// inForce is the setting that decides.
func (w *trafficWatch) inForce() policy.Traffic {
	if w.setting != AutoTraffic {
		return w.setting
	}
	if w.shifted.Load() {
		return policy.Shifting
	}
	return policy.KnownMix
}

// add counts a prompt. It returns true where a window is full, with the z of it.
func (w *trafficWatch) add(e *policy.Estimates) (z float64, full bool) {
	if w.samples == 0 {
		return 0, false
	}
	w.mix.Add(e.Task)
	mean, full := w.window.Add(e.Novelty)
	return classifier.NoveltyZ(mean, w.samples), full
}

// drift is how far the tasks of the last windows are from those of training, where it is time to say so.
func (w *trafficWatch) drift() (psi float64, due bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full++; w.full < driftWindows {
		return 0, false
	}
	w.full = 0
	return w.router.Drift(w.mix), true
}

// judge takes the z of a window. It returns true where the windows now say otherwise than before.
func (w *trafficWatch) judge(z float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	shifted, needed := w.shifted.Load(), alarmsToShift
	if shifted {
		needed = calmToReturn
	}
	if (z > classifier.NoveltyAlarm) == shifted {
		w.streak = 0
		return false
	}
	if w.streak++; w.streak < needed {
		return false
	}
	w.streak = 0
	w.shifted.Store(!shifted)
	return true
}

// follow counts the prompt of a round that the router decides. Where the window is full it shows what it says.
func (r *round) follow() {
	w := r.live.traffic
	if !r.sits() {
		return
	}
	z, full := w.add(&r.estimates.own)
	if !full || r.g.live.Load().traffic != w { // what another router measured is over
		return
	}
	m := r.g.o.Metrics
	m.TrafficNovelty(z)
	if psi, due := w.drift(); due {
		m.TaskDrift(psi)
	}
	if !w.judge(z) {
		return
	}
	m.TrafficShifting(w.inForce() == policy.Shifting)
	text := "the prompts are like those that the router was trained on again"
	if w.shifted.Load() {
		text = "the prompts are unlike those that the router was trained on"
	}
	r.g.o.Log.Warn(text, "novelty", math.Round(100*z)/100, "routing.traffic", w.setting, "policy", policyName(w.inForce()))
}
