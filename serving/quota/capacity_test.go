package quota

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func newCapacity(t rapid.TB, requests int, body int64) *Capacity {
	c, err := NewCapacity(CapacityOptions{Requests: requests, BodyBytes: body})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCapacityBounds: whatever comes and goes, the bounds hold, nobody but the last has it all, whoever has nothing gets
// what is free, and an idle process has nothing in use.
func TestCapacityBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requests, body := rapid.IntRange(1, 200).Draw(t, "requests"), rapid.Int64Range(1, 1000).Draw(t, "bytes")
		c := newCapacity(t, requests, body)
		type taken struct {
			Place
			owner string
			bytes int64
		}
		var open []*taken
		mine, used := map[string]int{}, int64(0)
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			if len(open) > 0 && rapid.IntRange(0, 2).Draw(t, "leave") == 0 {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				p := open[i]
				p.Leave()
				p.Leave() // once is enough
				mine[p.owner]--
				used -= p.bytes
				open = append(open[:i], open[i+1:]...)
				continue
			}
			owner, n := fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "owner")), rapid.Int64Range(-1, 300).Draw(t, "n")
			p, err := c.Enter(owner, n)
			free := requests - len(open)
			if fits := max(n, 0) == 0; err != nil && fits && (mine[owner] == 0 && free > 0 || mine[owner]+1 <= freeTimes*(free-1)) {
				t.Fatalf("%s has %d of %d and %d are free: %v", owner, mine[owner], requests, free, err)
			}
			if err != nil {
				continue
			}
			if free == 0 || mine[owner] > 0 && mine[owner]+1 > freeTimes*(free-1) {
				t.Fatalf("%s has %d of %d and %d are free, and was let in", owner, mine[owner], requests, free)
			}
			mine[owner]++
			used += max(n, 0)
			open = append(open, &taken{p, owner, max(n, 0)})
			if gotRequests, gotBytes := c.Open(); gotRequests != int64(len(open)) || gotBytes != used || used > body {
				t.Fatalf("%d requests and %d bytes are in use, want %d and %d of %d", gotRequests, gotBytes, len(open), used, body)
			}
		}
		for _, p := range open {
			p.Leave()
		}
		if n, b := c.Open(); n != 0 || b != 0 {
			t.Fatalf("%d requests and %d bytes in use at rest", n, b)
		}
	})
}

// TestCapacityIsShared: however many requests one owner has sent, others find room, and what it gives back is theirs.
func TestCapacityIsShared(t *testing.T) {
	c := newCapacity(t, 100, 1000)
	open := map[string][]Place{}
	enter := func(owner string) (n int) {
		for {
			p, err := c.Enter(owner, 1)
			if err != nil {
				return n
			}
			open[owner] = append(open[owner], p)
			n++
		}
	}
	if n := enter("greedy"); n != 90 {
		t.Errorf("one alone has %d of 100 places, want nine tenths", n)
	}
	for _, test := range []struct {
		owner string
		least int
	}{{"a", 5}, {"b", 1}} {
		if n := enter(test.owner); n < test.least {
			t.Errorf("%s has %d places beside the others, want at least %d", test.owner, n, test.least)
		}
	}
	for i := range 45 {
		open["greedy"][i].Leave()
		enter("greedy")
		if p, err := c.Enter(fmt.Sprint("late", i), 1); err != nil {
			t.Errorf("a late one finds no room when %d have left", i+1)
		} else if i%2 == 1 {
			p.Leave()
		}
	}
}

// TestBodiesAreMeasured: a body whose length nobody told takes its room as it is read, and one that lied about it too.
func TestBodiesAreMeasured(t *testing.T) {
	const mib = 1 << 20
	c := newCapacity(t, 100, 10*mib)
	for _, told := range []int64{-1, 0, 100, 3 * mib} {
		p, err := c.Enter("a", told)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, p.Body(bytes.NewReader(make([]byte, 3*mib))))
		_, used := c.Open()
		if err != nil || n != 3*mib || used < n || used > n+bodyStep {
			t.Errorf("told %d: read %d and took %d: %v", told, n, used, err)
		}
		p.Leave()
	}
	p, err := c.Enter("a", -1)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, p.Body(bytes.NewReader(make([]byte, 20*mib)))); !errors.Is(err, ErrFullBodies) || n > 11*mib {
		t.Errorf("read %d of a body larger than all there is: %v", n, err)
	}
	p.Leave()
	if n, b := c.Open(); n != 0 || b != 0 {
		t.Errorf("%d requests and %d bytes in use at rest", n, b)
	}
}

func TestCapacityConcurrent(t *testing.T) {
	c := newCapacity(t, 8, 100)
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for range 2000 {
				if p, err := c.Enter(fmt.Sprint(i%3), 30); err == nil {
					if n, b := c.Open(); n > 8+32 || b > 100+32*30 { // those that are about to be refused are counted for a moment
						t.Errorf("%d requests, %d bytes", n, b)
					}
					p.Leave()
				}
			}
		})
	}
	all.Wait()
	if n, b := c.Open(); n != 0 || b != 0 {
		t.Errorf("%d requests and %d bytes in use at rest", n, b)
	}
}

func TestCapacityOptions(t *testing.T) {
	for _, o := range []CapacityOptions{{Requests: -1}, {BodyBytes: -1}} {
		if _, err := NewCapacity(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func BenchmarkEnter(b *testing.B) {
	c := newCapacity(b, 4096, 256<<20)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, err := c.Enter("a", 700)
			if err != nil {
				b.Fatal(err)
			}
			p.Leave()
		}
	})
}
