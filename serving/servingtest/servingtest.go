// Package servingtest puts whole gateways under fire in virtual time: one seed makes the clients, the weather at the
// vendors, the kills and the power losses, and an auditor keeps books of its own.
//
// Everything between the client's HTTP request and the disk is the real code; the network, the disk and the vendors are in
// memory. The auditor shares no code with what it checks. A seed repeats what happens, not the order in which goroutines
// run, so a failure may take several runs to come back. Processes, sockets and real disks are tested beside the program.
package servingtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk/disktest"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// Run is one world from its first request to its audit. It returns what the auditor has to say of it.
func Run(t *testing.T, seed uint64, twin Twin) (err error) {
	defer func() {
		if p := recover(); p != nil { // such as goroutines that wait for ever
			stacks := make([]byte, 1<<18)
			err = fmt.Errorf("panic: %v\n%s", p, stacks[:runtime.Stack(stacks, true)])
		}
		if err != nil {
			err = fmt.Errorf("seed %d: %w", seed, err)
		}
	}()
	var w *world
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(seed, twin)
		err = w.live(t.Context())
	})
	if err != nil {
		return err
	}
	return w.audit(t.Context()) // in real time: readers of Parquet share goroutines among all who read
}

// The kinds of worlds.
type kind int

const (
	weather kind = iota // every vendor has good and bad times
	storm               // every vendor fails at once
	oneWell             // every vendor but one has bad times
	budget              // more is asked for than the keys may spend
	kinds
)

const (
	// day is how long clients ask in any weather; then it is fine everywhere, and after calm everything must be well.
	day  = 40 * time.Second
	calm = 3 * time.Minute
	// cancelWithin is how soon a vendor must hear that a client has gone.
	cancelWithin = 50 * time.Millisecond
	// stall is how long a gateway waits for a vendor that says nothing.
	stall = 5 * time.Second
	// longest is how long a request may take, whether its client is there or not.
	longest = 6 * stall
)

// world is some gateways, their vendors and their clients.
type world struct {
	kind    kind
	seed    uint64
	random  *rand.Rand
	twin    Twin
	arms    []catalog.Arm
	weather map[catalog.ArmID][]spell
	keys    []key
	// toTheEnd are the vendors that bill to the end whoever listens, and are drained.
	toTheEnd map[string]bool
	// dieAt is the vendors' call at which a gateway dies, 0 is never. With power the disk loses what was not synced.
	dieAt int
	power bool

	began    time.Time
	vendors  *vendors
	disk     *disktest.Disk
	shared   *ledger.Memory // of several gateways
	gateways []*gateway
	clients  sync.WaitGroup
	dying    sync.WaitGroup

	mu       sync.Mutex
	requests []*request
	killed   []time.Time // when a gateway died, and when it stood again
}

// key is an API key and what it may spend in all, 0 where that is not limited.
type key struct {
	secret string
	cap    catalog.Nanodollars
}

func newWorld(seed uint64, t Twin) *world {
	random := rand.New(rand.NewPCG(seed, 7))
	w := &world{
		seed: seed, kind: kind(seed % uint64(kinds)), random: random, twin: t, began: time.Now(), weather: map[catalog.ArmID][]spell{},
		keys: []key{{secret: "sk-tw-aaaaaaaaaaaaaaaaaaaa"}, {secret: "sk-tw-bbbbbbbbbbbbbbbbbbbb"}}, disk: disktest.New(),
	}
	n := 2 + random.IntN(2)
	for i := range n {
		price := catalog.Picodollars(1_000_000 * (1 + i))
		w.arms = append(w.arms, catalog.Arm{
			ID: catalog.ArmID(fmt.Sprintf("vendor%d/arm", i)), Tier: catalog.TierLarge, ContextTokens: 8000, MaxOutputTokens: 1000,
			Prices: catalog.Prices{Known: true, Rates: catalog.Rates{Input: price, Output: 3 * price, CacheRead: price, CacheWrite: price}},
		})
	}
	well := random.IntN(n)
	for i := range w.arms {
		w.weather[w.arms[i].ID] = w.forecast(i == well)
	}
	if w.kind == budget {
		for i := range w.keys {
			w.keys[i].cap = catalog.Nanodollars(1_000_000 + random.IntN(2_000_000)) // of two or three requests
		}
	}
	if random.IntN(2) == 0 && w.kind != storm {
		w.dieAt = 1 + random.IntN(30)
		w.power = random.IntN(2) == 0
	}
	w.toTheEnd = map[string]bool{}
	for i := range w.arms {
		if random.IntN(3) == 0 {
			w.toTheEnd[w.arms[i].ID.Provider()] = true
		}
	}
	w.vendors = &vendors{world: w}
	return w
}

// several is how many gateways there are; one that dies is alone, because the others of a real fleet have the ledger's
// database, and not its memory.
func (w *world) several() int {
	if w.dieAt > 0 {
		return 1
	}
	return 1 + int(w.seed/uint64(kinds)%3)
}

func (w *world) live(ctx context.Context) error {
	for i := range w.several() {
		g := &gateway{world: w, dir: fmt.Sprintf("/data%d", i), process: w.disk.Process()}
		w.gateways = append(w.gateways, g)
		if err := g.start(ctx); err != nil {
			return fmt.Errorf("a gateway does not start: %w", err)
		}
	}
	n := 0
	for c := range 6 {
		random := rand.New(rand.NewPCG(w.seed, uint64(100+c)))
		first, each := n, 3+random.IntN(6)
		w.clients.Go(func() { w.client(ctx, random, c, first, each) })
		n += each
	}
	w.clients.Wait()
	time.Sleep(time.Until(w.began.Add(day + stall))) // what clients left behind ends
	time.Sleep(calm)
	for range w.arms { // the first to come probes who was ejected
		w.ask(ctx, &request{nonce: n, last: true, gateway: w.gateways[n%len(w.gateways)], key: n % len(w.keys), ends: forever})
		n++
	}
	w.dying.Wait()
	return w.stop(ctx)
}

// stop ends all gateways as SIGTERM does.
func (w *world) stop(ctx context.Context) error {
	var errs []error
	for _, g := range w.gateways {
		errs = append(errs, g.stop(ctx))
	}
	return errors.Join(errs...)
}

// die ends the gateway and starts it again on what the disk has kept. It is called when a vendor is called.
func (w *world) die() {
	g := w.gateways[0]
	w.mu.Lock()
	w.killed = append(w.killed, time.Now())
	w.mu.Unlock()
	g.kill()
	if w.power {
		w.disk.PowerLoss(rand.New(rand.NewPCG(w.seed, 3)), []float64{0, 0.5, 1}[w.seed/8%3])
	}
	time.Sleep(100 * time.Millisecond) // somebody notices
	g.process = w.disk.Process()
	err := g.start(context.Background())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.killed = append(w.killed, time.Now())
	g.failed = err
}

// sync is what the journal promises, and what must be kept: a power loss is survived whole in one mode only.
func (w *world) sync() journal.Sync {
	if w.power {
		return journal.Always
	}
	return journal.Write
}

// wasDown reports whether a gateway was dead at any time between two instants.
func (w *world) wasDown(from, to time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.killed) > 0 && !to.Before(w.killed[0]) && (len(w.killed) < 2 || !from.After(w.killed[1]))
}

// arm finds an arm by its id.
func (w *world) arm(id catalog.ArmID) *catalog.Arm {
	i := slices.IndexFunc(w.arms, func(a catalog.Arm) bool { return a.ID == id })
	if i < 0 {
		return nil
	}
	return &w.arms[i]
}
