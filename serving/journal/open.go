package journal

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk"
	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Recovery says what Open found.
type Recovery struct {
	// Segments were there, with Frames whole frames.
	Segments int
	Frames   int
	// TornBytes were cut off the end of the last segment, DamagedBytes stepped over elsewhere.
	TornBytes    int
	DamagedBytes int
	// Unknown are the rounds that had no outcome, with the one they got: status unknown, and the cost of their hold,
	// because the vendor may have billed it.
	Unknown []datasets.Round
}

// LockedError says that another process writes to the folder.
type LockedError struct {
	Dir string
	// PID is the other process; 0 where it could not be read.
	PID int
}

// Error names the other process.
func (e *LockedError) Error() string {
	return fmt.Sprintf("journal: %s is in use by process %d", e.Dir, e.PID)
}

// Open takes the folder for this process, making it where it is missing, reads what earlier ones left and begins a new
// segment. Rounds that a crash cut off get their outcome here. A second process is refused with a *LockedError.
func Open(dir string, o Options) (*Journal, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	j := &Journal{o: o.withDefaults(), dir: dir, open: make(map[datasets.RoundID]*round), next: 1}
	j.recent = recent{max: j.o.RecentMax, rounds: make(map[datasets.RoundID]*recentRound)}
	j.dirty, j.synced = make(chan struct{}, 1), make(chan struct{})
	if err := disk.MakeFolder(j.o.FS, "/", dir); err != nil {
		return nil, fmt.Errorf("journal: making folder: %w", err)
	}
	lock, err := j.o.FS.Lock(filepath.Join(dir, "lock"))
	if used := (*disk.InUseError)(nil); errors.As(err, &used) {
		return nil, &LockedError{Dir: dir, PID: used.PID}
	}
	if err != nil {
		return nil, fmt.Errorf("journal: locking: %w", err)
	}
	j.lock = lock
	if err := j.begin(); err != nil {
		for _, seg := range j.sealing {
			_ = seg.f.Close()
		}
		_ = lock.Close()
		return nil, fmt.Errorf("journal: recovering %s: %w", dir, err)
	}
	go j.syncLoop()
	return j, nil
}

func (o Options) withDefaults() Options {
	if o.Sync == "" {
		o.Sync = Write
	}
	if o.SyncEvery == 0 {
		o.SyncEvery = 5 * time.Millisecond
	}
	if o.SegmentMaxBytes == 0 {
		o.SegmentMaxBytes = 8 << 20
	}
	if o.RecentMax == 0 {
		o.RecentMax = 10_000
	}
	if o.OpenMax == 0 {
		o.OpenMax = 100_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	return o
}

// Recovered says what Open found.
func (j *Journal) Recovered() Recovery { return j.recovered }

// begin finds out where the numbering goes on, and recovers.
func (j *Journal) begin() error {
	if j.o.After != nil {
		after, err := j.o.After()
		if err != nil {
			return err
		}
		j.next = after + 1
	}
	return j.recover()
}

// recover scans the segments, cuts the torn end and writes the outcomes that are missing into a new segment.
func (j *Journal) recover() error {
	firsts, err := frame.List(j.o.FS, j.dir, suffix)
	if err != nil {
		return err
	}
	for i, first := range firsts {
		if err := j.readSegment(first, i == len(firsts)-1); err != nil {
			return err
		}
	}
	j.recovered.Segments = len(firsts)
	unended, err := j.openRounds()
	if err != nil {
		return err
	}
	if j.active, err = j.createSegment(j.next, nil); err != nil {
		return err
	}
	if err := j.endRounds(unended); err != nil {
		return err
	}
	for _, seg := range j.sealing {
		seg.retire()
	}
	return nil
}

// readSegment learns what a segment left by an earlier process holds.
func (j *Journal) readSegment(first uint64, last bool) error {
	path := frame.Path(j.dir, first, suffix)
	f, err := j.o.FS.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	seg := &segment{first: first, path: path, f: f}
	j.sealing = append(j.sealing, seg)
	data, err := seg.contents(j.o.FS)
	if err != nil {
		return err
	}
	scan := frame.NewScanner(data, magic, kinds, first)
	j.next = max(j.next, first+1)
	for f, ok := scan.Next(); ok; f, ok = scan.Next() {
		id, err := roundID(f.Payload)
		if err != nil {
			return fmt.Errorf("%s, frame %d: %w", path, f.Sequence, err)
		}
		j.learn(f.Kind, id, location{seg: seg, off: int64(f.Offset), n: int32(frame.HeaderSize + len(f.Payload))})
		j.next = max(j.next, f.Sequence+1)
		j.recovered.Frames++
	}
	j.recovered.DamagedBytes += scan.Damaged
	seg.size = int64(len(data) - scan.Torn)
	if !last {
		j.recovered.DamagedBytes += scan.Torn
		return nil
	}
	j.recovered.TornBytes = scan.Torn
	if scan.Torn > 0 {
		err = f.Truncate(seg.size)
	}
	// The process before may have been killed before its fsync: what was read must be on the disk before it is built upon.
	return errors.Join(err, f.Sync())
}

// unended is a round that recovery has to end, with the outcome that it had where one was found.
type unended struct {
	id       datasets.RoundID
	at       location
	decision []byte
	outcome  []byte
}

// openRounds reads the rounds that have no outcome beside their decision, in the order of writing.
func (j *Journal) openRounds() ([]unended, error) {
	var all []unended
	for id, r := range j.open {
		u := unended{id: id, at: r.decision}
		var err error
		if u.decision, err = r.decision.read(); err == nil && r.stray.seg != nil {
			u.outcome, err = r.stray.read()
		}
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b unended) int {
		return cmp.Or(cmp.Compare(a.at.seg.first, b.at.seg.first), cmp.Compare(a.at.off, b.at.off))
	})
	return all, nil
}

// endRounds writes the decisions of open rounds again, each with its outcome, in one write: the one that was found apart
// from its decision, else one of status unknown.
func (j *Journal) endRounds(rounds []unended) error {
	if len(rounds) == 0 {
		return nil
	}
	records := make([]record, 0, 2*len(rounds))
	for _, r := range rounds {
		if r.outcome == nil {
			if err := j.endUnknown(&r); err != nil {
				return fmt.Errorf("round %s: %w", r.id, err)
			}
		}
		records = append(records,
			record{kind: KindDecision, id: r.id, payload: r.decision, sum: frame.Sum(r.decision)},
			record{kind: KindOutcome, id: r.id, payload: r.outcome, sum: frame.Sum(r.outcome)})
	}
	j.io.Lock()
	defer j.io.Unlock()
	return j.commit(records)
}

// endUnknown gives a round the outcome that says that nobody knows.
func (j *Journal) endUnknown(r *unended) (err error) {
	var round datasets.Round
	if err := round.Decision.ParseJSON(r.decision); err != nil {
		return err
	}
	round.Outcome = datasets.Outcome{
		RoundID: r.id, At: j.o.Now(), Status: datasets.Unknown,
		Cost: round.Decision.Hold, CostStatus: costStatus(&round.Decision.Case, round.Decision.Action),
	}
	j.recovered.Unknown = append(j.recovered.Unknown, round)
	r.outcome, err = round.Outcome.AppendJSON(nil)
	return err
}

// costStatus is unpriced where the arm that was chosen has no price: its hold says nothing.
func costStatus(c *policy.Case, action catalog.ArmID) datasets.CostStatus {
	for i := range c.Candidates {
		if c.Candidates[i].Arm == action && !c.Candidates[i].Priced {
			return datasets.CostUnpriced
		}
	}
	return datasets.CostEstimated
}

// roundID reads the id of a payload, which is its first field: no need to decode the rest.
func roundID(payload []byte) (datasets.RoundID, error) {
	if rest, found := bytes.CutPrefix(payload, []byte(`{"round_id":"`)); found {
		if id, _, found := bytes.Cut(rest, []byte{'"'}); found && bytes.IndexByte(id, '\\') < 0 {
			return datasets.RoundID(id), nil
		}
	}
	var v struct {
		RoundID datasets.RoundID `json:"round_id"`
	}
	err := json.Unmarshal(payload, &v)
	return v.RoundID, err
}
