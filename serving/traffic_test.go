package serving

import (
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
)

// TestTrafficChangesSlowly plays windows, ! with an alarm and . without one: two alarms in a row change to the setting for
// shifting traffic, four calm windows in a row back.
func TestTrafficChangesSlowly(t *testing.T) {
	for windows, want := range map[string]string{
		"!.!.!.!.":       "kkkkkkkk",
		"!!":             "ks",
		"..!!!...!....!": "kkkssssssssskk",
		"!!....!!":       "ksssskks",
	} {
		w := newTrafficWatch(AutoTraffic, nil)
		for i, kind := range windows {
			z, before := float64(classifier.NoveltyAlarm), w.inForce()
			if kind == '!' {
				z += 0.01
			}
			if changed := w.judge(z); changed != (w.inForce() != before) {
				t.Errorf("%s, window %d: changed %v, from %s to %s", windows, i, changed, before, w.inForce())
			}
			if got := w.inForce(); (got == policy.Shifting) != (want[i] == 's') {
				t.Errorf("%s, window %d: %s is in force, want %c", windows, i, got, want[i])
			}
		}
	}
	for _, setting := range []policy.Traffic{"", policy.KnownMix, policy.Shifting} {
		w := newTrafficWatch(setting, nil)
		w.judge(9)
		if !w.judge(9) || w.inForce() != setting {
			t.Errorf("%q: the operator's setting became %q, or nobody is told", setting, w.inForce())
		}
	}
}
