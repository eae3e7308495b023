package serving_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// nature is how an arm of the simulated world behaves beside what it can: its waits, and the share of calls that fail.
type nature struct {
	first, perToken time.Duration
	fails           float64
}

// natures are not in the order of skill or price, so that no strategy is served by following another: the middle arm begins
// first, and the dear one is done first with what is long and fails least.
func natures() []nature {
	return []nature{
		{first: 900 * time.Millisecond, perToken: 6 * time.Millisecond, fails: 0.08},
		{first: 100 * time.Millisecond, perToken: 9 * time.Millisecond, fails: 0.05},
		{first: 500 * time.Millisecond, perToken: 2 * time.Millisecond, fails: 0},
	}
}

// inhabited is the simulated world as a vendor: a call takes the time of its answer, on a clock that nobody waits for.
type inhabited struct {
	world *simulate.World
	arms  []catalog.Arm
	task  *simulate.Task
	rng   *rand.Rand
}

func (v *inhabited) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	arm := slices.IndexFunc(v.arms, func(a catalog.Arm) bool { return a.ID == r.Arm.ID })
	n := natures()[arm]
	if v.rng.Float64() < n.fails {
		return nil, &upstream.Error{Class: upstream.Server, Status: 503, Message: "simulated failure"}
	}
	o := v.world.Outcome(v.task, arm)
	usage := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d}`, o.InputTokens, o.OutputTokens)
	took := float64(n.first) + float64(n.perToken)*float64(o.OutputTokens)
	time.Sleep(time.Duration(took * math.Exp(0.2*v.rng.NormFloat64())))
	return &script{events: []string{whole("yes", usage)}, ctx: ctx}, nil
}

// lived is what one strategy has made of the same prompts.
type lived struct {
	quality, cost, seconds, answered float64
	lambda                           float64
}

// live serves prompts under one strategy, after a time in which the arms are got to know.
func live(t *testing.T, l learned, strategy string, prompts int) (sum lived) {
	arms := l.world.Arms()
	v := &inhabited{world: l.world, arms: arms, rng: rand.New(rand.NewPCG(5, 6))}
	w := newWorld(t, setup{
		arms: arms, router: must(serving.NewRouter(arms, l.classifier))(t), providers: map[string]upstream.Provider{arms[0].ID.Provider(): v},
	})
	ask := func(i int, model string) *answer {
		task := l.world.Sample(int64(worldRows + i))
		v.task = &task
		return w.chat(fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%s}],"tradewind":{"fallback":false}}`, model, must(json.Marshal(task.Text))(t)))
	}
	for i := range 100 * len(arms) {
		ask(i, string(arms[i%len(arms)].ID))
	}
	for i := range prompts {
		begun := time.Now()
		a := ask(1000+i, "auto:"+strategy)
		if a.status == 200 {
			sum.answered++
			sum.seconds += time.Since(begun).Seconds()
		}
		d, _ := w.outcome(a)
		checkReplay(t, d)
		arm := slices.IndexFunc(arms, func(a catalog.Arm) bool { return a.ID == d.Action })
		sum.quality += l.world.Expected(v.task, arm)
		sum.cost += d.Case.Candidates[arm].CostUSD
		sum.lambda = d.Case.Lambda
	}
	n := float64(prompts)
	sum.quality, sum.cost, sum.seconds, sum.answered = sum.quality/n, sum.cost/n, sum.seconds/sum.answered, sum.answered/n
	return sum
}

// worldRows are enough for the guard to tell arms apart.
const worldRows = 2000

// TestEveryStrategyIsBestAtItsOwn: on the same prompts of a simulated world each strategy is ahead of all others in what it is
// for: cost the cheapest, quality the best, latency the fastest, availability the one that fails least, and balanced the one
// with the highest reward at its own price of a dollar.
func TestEveryStrategyIsBestAtItsOwn(t *testing.T) {
	if testing.Short() {
		t.Skip("one after the other: nothing for the race detector")
	}
	l := must(trainedOn(worldRows))(t)
	of := map[string]lived{}
	for _, s := range []string{"cost", "quality", "latency", "availability", "balanced"} {
		synctest.Test(t, func(t *testing.T) { of[s] = live(t, l, s, 400) })
		t.Logf("%-12s %+v", s, of[s])
	}
	lambda := of["balanced"].lambda
	for s, better := range map[string]func(l lived) float64{
		"cost":         func(l lived) float64 { return -l.cost },
		"quality":      func(l lived) float64 { return l.quality },
		"latency":      func(l lived) float64 { return -l.seconds },
		"availability": func(l lived) float64 { return l.answered },
		"balanced":     func(l lived) float64 { return l.quality - lambda*l.cost },
	} {
		for other, l := range of {
			if other != s && !(better(of[s]) > better(l)) {
				t.Errorf("%s: %v, but %s has %v", s, better(of[s]), other, better(l))
			}
		}
	}
}
