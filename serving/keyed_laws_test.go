package serving_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk/disktest"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/idempotency"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// P4: every message is delivered one to five times, in any order and at once, by clients of which some leave, while the
// process is killed and started again. The auditor counts what the vendor was asked and what the journal has settled.

// keyTwin is a way to get idempotency wrong.
type keyTwin int

const (
	rightKeys   keyTwin = iota
	lookThenAct         // looks for an answer, and stores one later
	forgetful           // keeps keys where a kill takes them along
)

// post is one of the messages under way.
type post struct {
	nonce  int
	stream bool
}

// mail is a gateway on a disk that outlives it, and the deliveries.
type mail struct {
	random *rand.Rand
	twin   keyTwin
	disk   *disktest.Disk
	lives  int

	process *disktest.Process
	journal *journal.Journal
	keys    *idempotency.Store
	gateway *serving.Gateway
	handler http.Handler
	die     context.CancelFunc
	living  context.Context
	work    *sync.WaitGroup

	mu       sync.Mutex
	asked    map[string]int    // by the vendor, per prompt
	answers  map[string]string // what a client was answered, per prompt
	table    map[string]*httptest.ResponseRecorder
	kept     map[string]bool // answered by a process that lived on for that long
	cut      map[string]bool // charged, as far as is known, and without an answer
	replays  int
	problems []string
}

// draw draws from [0,n).
func (m *mail) draw(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n)
}

// Stream takes some milliseconds; no two answers are alike.
func (m *mail) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	prompt := promptOf(string(r.Body))
	m.mu.Lock()
	m.asked[prompt]++
	text := fmt.Sprintf("answer %d to %s", len(m.asked)*100+m.asked[prompt], prompt)
	wait := time.Duration(m.random.IntN(30)) * time.Millisecond
	m.mu.Unlock()
	s := &script{ctx: ctx, stream: r.Stream, events: []string{whole(text, `{"prompt_tokens":7,"completion_tokens":3}`)}}
	if r.Stream {
		s.events = []string{delta(text), finish, usageChunk, "[DONE]"}
	}
	s.before = func(int) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			s.events, s.err = nil, ctx.Err()
		}
	}
	return s, nil
}

// promptOf is the message in a body.
func promptOf(body string) string {
	_, rest, _ := strings.Cut(body, `"content":"`)
	prompt, _, _ := strings.Cut(rest, `"`)
	return prompt
}

// start is a process.
func (m *mail) start() error {
	m.process = m.disk.Process()
	var sums *ledger.Checkpoint
	var err error
	m.journal, err = journal.Open("/data/journal", journal.Options{FS: m.process, After: func() (through uint64, err error) {
		if sums, err = ledger.OpenCheckpoint(m.process, "/data/ledger.json"); err == nil {
			through = sums.Through()
		}
		return through, err
	}})
	if err != nil {
		return err
	}
	opening, err := serving.Opening(sums, m.journal)
	if err != nil {
		return err
	}
	books, err := ledger.NewMemory(ledger.Options{Opening: opening})
	if err != nil {
		return err
	}
	o := serving.Options{Ledger: books, Books: books, Journal: m.journal, Metrics: telemetry.NewMetrics(nil)}
	m.lives++
	if m.twin != lookThenAct {
		dir := "/data/idempotency"
		if m.twin == forgetful {
			dir += fmt.Sprint(m.lives)
		}
		if m.keys, err = idempotency.Open(dir, idempotency.Options{FS: m.process, SegmentMaxBytes: 2000}); err != nil {
			return err
		}
		o.Idempotency = m.keys
	}
	if err := m.serve(&o); err != nil {
		return err
	}
	m.living, m.die = context.WithCancel(context.Background())
	m.work = &sync.WaitGroup{}
	return nil
}

// serve makes the gateway.
func (m *mail) serve(o *serving.Options) error {
	arms := threeArms()
	providers := map[string]upstream.Provider{}
	for _, a := range arms {
		providers[a.ID.Provider()] = m
	}
	router, err := serving.NewRouter(arms, nil)
	limits, err2 := quota.New(quota.Options{})
	pool, err3 := upstream.New(upstream.Options{Providers: providers})
	auth, err4 := governance.New(governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Log: governance.LogFull}}})
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return err
	}
	o.Quota, o.Settings = limits, serving.Settings{Arms: arms, Router: router, Pool: pool, Auth: auth}
	if m.gateway, err = serving.New(*o); err != nil {
		return err
	}
	if m.handler = m.gateway.Handler(); m.twin == lookThenAct {
		m.handler = m.lookFirst(m.handler)
	}
	return nil
}

// lookFirst is what is often written: the answer is looked for, and stored once there is one.
func (m *mail) lookFirst(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Idempotency-Key")
		m.mu.Lock()
		rec := m.table[key]
		m.mu.Unlock()
		if rec == nil {
			rec = httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			m.mu.Lock()
			m.table[key] = rec
			m.mu.Unlock()
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

// kill ends the process as SIGKILL does.
func (m *mail) kill() {
	m.process.Kill()
	m.die()
	m.gateway.Cut()
	m.work.Wait()
	_ = m.journal.Close() // ends its goroutine; the disk refuses it everything
	if m.keys != nil {
		_ = m.keys.Close()
	}
}

// deliver brings a message to the process that runs.
func (m *mail) deliver(p post, patience time.Duration) {
	prompt := fmt.Sprintf("message %d", p.nonce)
	body := fmt.Sprintf(`{"model":"auto","stream":%v,"messages":[{"role":"user","content":"%s"}]}`, p.stream, prompt)
	process, living := m.process, m.living
	ctx, cancel := context.WithTimeout(living, patience)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, "POST", "/v1/chat/completions", bytes.NewReader([]byte(body)))
	req.Header.Set("Authorization", "Bearer "+keyA)
	req.Header.Set("Idempotency-Key", fmt.Sprintf("key-%d", p.nonce))
	rec := httptest.NewRecorder()
	m.handler.ServeHTTP(rec, req)
	if ctx.Err() != nil || process.Dead() {
		return // nobody has it
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := &answer{nil, rec.Code, rec.Header(), rec.Body.String()}
	switch {
	case rec.Code == 200:
		if before, answered := m.answers[prompt]; answered && before != a.body {
			m.problems = append(m.problems, fmt.Sprintf("%s was answered %.200q and %.200q", prompt, before, a.body))
		}
		m.answers[prompt], m.kept[prompt] = a.body, true
		if a.header.Get("X-Tradewind-Idempotent-Replay") == "true" {
			m.replays++
		}
	case rec.Code == 409 && strings.Contains(a.body, string(openai.InProgress)):
	case rec.Code == 409 && strings.Contains(a.body, string(idempotency.Interrupted)) && !m.kept[prompt]:
		m.cut[prompt] = true
	default:
		m.problems = append(m.problems, fmt.Sprintf("%s: %d %.300s", prompt, rec.Code, a.body))
	}
}

// live is a world from its first delivery to its audit.
func (m *mail) live(messages int) error {
	if err := m.start(); err != nil {
		return err
	}
	var all, due []post
	for i := range messages {
		p := post{i, m.random.IntN(2) == 0}
		all = append(all, p)
		for range 1 + m.random.IntN(5) {
			due = append(due, p)
		}
	}
	m.random.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	for len(due) > 0 {
		n := min(len(due), 1+m.draw(12))
		for _, p := range due[:n] {
			patience := time.Minute
			if m.draw(4) == 0 {
				patience = time.Duration(m.draw(60)) * time.Millisecond
			}
			m.work.Go(func() { m.deliver(p, patience) })
		}
		due = due[n:]
		pause, dies := time.Duration(m.draw(60))*time.Millisecond, m.draw(3) == 0
		time.Sleep(pause)
		if !dies && !m.process.Dead() {
			continue
		}
		m.kill()
		if err := m.start(); err != nil {
			return err
		}
		if m.draw(2) == 0 { // the next end comes at a write, wherever that is
			m.process.DieAt(1 + m.draw(40))
		}
	}
	m.work.Wait()
	if m.process.Dead() {
		m.kill()
		if err := m.start(); err != nil {
			return err
		}
	}
	m.process.DieAt(0)
	for _, p := range all { // once more, in quiet
		m.deliver(p, time.Minute)
	}
	m.kill()
	if len(m.problems) > 0 {
		return errors.New(strings.Join(m.problems, "\n"))
	}
	return m.audit(messages)
}

// audit counts the settlements of each message.
func (m *mail) audit(messages int) error {
	if err := m.start(); err != nil {
		return err
	}
	defer m.kill()
	if err := m.journal.Rotate(); err != nil {
		return err
	}
	settled := map[string]int{}
	cost := map[string]catalog.Nanodollars{}
	err := m.journal.Seal(context.Background(), func(_ context.Context, c journal.Closed) (bool, error) {
		b, err := c.Read()
		for _, r := range b.Rounds {
			if r.Outcome.Cost > 0 || r.Outcome.Status == datasets.Completed {
				settled[r.Decision.Prompt]++
				cost[r.Decision.Prompt] += r.Outcome.Cost
			}
		}
		return false, err
	})
	if err != nil {
		return err
	}
	for i := range messages {
		prompt := fmt.Sprintf("message %d", i)
		if settled[prompt] > 1 || settled[prompt] == 0 && !m.cut[prompt] || m.asked[prompt] > 1 {
			return fmt.Errorf("%s was settled %d times for %s USD, and the vendor was asked %d times", prompt, settled[prompt], cost[prompt], m.asked[prompt])
		}
	}
	return nil
}

// mailWorld is one seed.
func mailWorld(t *testing.T, seed uint64, twin keyTwin) (replays int, err error) {
	synctest.Test(t, func(t *testing.T) {
		m := &mail{
			random: rand.New(rand.NewPCG(seed, 4)), twin: twin, disk: disktest.New(),
			asked: map[string]int{}, answers: map[string]string{}, table: map[string]*httptest.ResponseRecorder{}, kept: map[string]bool{}, cut: map[string]bool{},
		}
		err = m.live(6)
		replays = m.replays
	})
	if err != nil {
		err = fmt.Errorf("seed %d: %w", seed, err)
	}
	return replays, err
}

func TestKeyLaws(t *testing.T) {
	worlds := uint64(5_000 * testScale())
	replays := 0
	for seed := range worlds {
		n, err := mailWorld(t, seed, rightKeys)
		if err != nil {
			t.Fatal(err)
		}
		replays += n
	}
	if replays < int(worlds) {
		t.Errorf("only %d replays in %d worlds", replays, worlds)
	}
	t.Logf("%d worlds of 6 messages: one settlement a key, %d answers given again", worlds, replays)
}

// The auditor must see what a wrong gateway does, or the test above says nothing.
func TestKeyLawsCatchTwins(t *testing.T) {
	for name, twin := range map[string]keyTwin{"look first, act later": lookThenAct, "keys that a kill takes along": forgetful} {
		var caught error
		for seed := uint64(0); seed < 50 && caught == nil; seed++ {
			_, caught = mailWorld(t, seed, twin)
		}
		if caught == nil {
			t.Errorf("%s: 50 worlds, and the auditor saw nothing", name)
		} else {
			t.Logf("%s: %v", name, caught)
		}
	}
}
