package idempotency

import (
	"cmp"
	"fmt"
	"os"
	"slices"

	"github.com/tradewind-llm/tradewind/datasets/disk"
	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
)

// Open reads what earlier processes left in the folder, making it where it is missing. A request that they had written down
// and not ended is one that may have been charged: its answer is lost. One process uses a folder; whoever opens it sees to
// that.
func Open(dir string, o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Store{o: o.withDefaults(), dir: dir, names: map[Digest]*record{}, owners: map[string]*owner{}, next: 1}
	if err := s.open(); err != nil {
		for _, g := range s.segments {
			_ = g.f.Close()
		}
		return nil, fmt.Errorf("idempotency: opening %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := disk.MakeFolder(s.o.FS, "/", s.dir); err != nil {
		return err
	}
	firsts, err := frame.List(s.o.FS, s.dir, suffix)
	if err != nil {
		return err
	}
	for _, first := range firsts {
		if err := s.read(first); err != nil {
			return err
		}
	}
	s.arrange()
	return nil
}

// read learns what a file holds. Damage costs the frames that it is in; what they said is then what earlier frames say.
func (s *Store) read(first uint64) error {
	path := frame.Path(s.dir, first, suffix)
	f, err := s.o.FS.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	g := &segment{first: first, path: path, f: f, begun: s.o.Now()}
	s.segments = append(s.segments, g)
	data, err := disk.ReadFile(s.o.FS, path)
	if err != nil {
		return err
	}
	g.size = int64(len(data))
	s.size += g.size
	s.next = max(s.next, first+1)
	scan := frame.NewScanner(data, magic, kinds, first)
	for f, ok := scan.Next(); ok; f, ok = scan.Next() {
		s.next = max(s.next, f.Sequence+1)
		if e, err := parse(f.Payload); err == nil {
			s.learn(f.Kind, e, location{seg: g, off: int64(f.Offset), n: int32(frame.HeaderSize + len(f.Payload))})
		}
	}
	// The process before may have been killed before its fsync. A torn end stays, and no frame comes behind it.
	g.broken.Store(true)
	return f.Sync()
}

// learn is put, by an earlier process.
func (s *Store) learn(kind frame.Kind, e *entry, on location) {
	r := s.names[e.Name]
	if kind == kindForgotten {
		if r != nil && r.round == e.Round {
			s.remove(r)
		}
		return
	}
	if r != nil {
		s.remove(r)
	}
	r = &record{name: e.Name, digest: e.Digest, round: e.Round, at: e.At, state: lost, reason: cmp.Or(e.Lost, Interrupted)}
	s.insert(e.Owner, r)
	s.stand(r, kind, on)
}

// arrange puts the records of each owner in the order of their age, which copies have mixed up, and forgets those that are
// too old or too many.
func (s *Store) arrange() {
	for _, o := range s.owners {
		all := make([]*record, 0, o.records.Len())
		for e := o.records.Front(); e != nil; e = e.Next() {
			all = append(all, e.Value.(*record))
		}
		slices.SortStableFunc(all, func(a, b *record) int { return a.at.Compare(b.at) })
		o.records.Init()
		for _, r := range all {
			r.place = o.records.PushBack(r)
		}
		s.expire(o, s.o.Now())
	}
	for len(s.names) > s.o.KeysMax {
		s.forgetOne()
	}
}
