package datasets

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// Sealing and merging have two halves. To prepare a part takes nearly all of the work and touches nothing but a file of its
// own, so another process may do it; to adopt it takes a rename and a line of the manifest, under the log's lock.

// A file that is being prepared stands in the log's folder under such a name.
const (
	tempPrefix = ".tradewind-"
	tempName   = tempPrefix + "part-"
	tempSuffix = ".tmp"
)

// TempName is a new beginning for the names of what is prepared. No two are alike: a process whose parent was killed may
// still be writing, and must not write into the file of the next.
func TempName() string { return fmt.Sprintf("%s%016x", tempName, rand.Uint64()) }

// Prepared is a part that stands under a temporary name, durable, read back and compared, and that nobody vouches for.
type Prepared struct {
	Temp string `json:"temp"`
	Part Part   `json:"part"`
}

// Prepare writes what Seal and SealFeedback would into files of the log's folder that begin with name, and takes no lock: the
// process that holds it calls Adopt.
func Prepare(dir, name string, rounds []Round, feedback []Feedback) ([]Prepared, error) {
	l := outside(dir)
	parts, err := l.prepareRounds(name, rounds)
	if err != nil {
		return nil, err
	}
	more, err := l.prepareFeedback(name, feedback)
	if err != nil {
		l.discard(parts)
		return nil, err
	}
	return append(parts, more...), nil
}

// MergeJob is the merging of one run of parts, but for the adoption of what comes of it.
type MergeJob struct {
	// Log is the folder of the log, Name what the new file's name begins with.
	Log  string `json:"log"`
	Name string `json:"name"`
	// Run are the parts, in the order of their rows.
	Run []Part `json:"run"`
	// Gentle is CompactOptions.Gentle.
	Gentle bool `json:"gentle"`
}

// Do writes the merged part and compares it with its sources. It takes no lock.
func (j MergeJob) Do(ctx context.Context) (Prepared, error) {
	if len(j.Run) == 0 {
		return Prepared{}, errors.New("datasets: nothing to merge")
	}
	merged, err := outside(j.Log).prepareMerge(ctx, j, &pace{o: &CompactOptions{Gentle: j.Gentle}, worked: time.Now()})
	if err != nil {
		return Prepared{}, fmt.Errorf("datasets: merging: %w", err)
	}
	return merged, nil
}

// outside is a log without its lock and without its manifest: good for its folder and its parts.
func outside(dir string) *Log {
	return &Log{dir: filepath.Clean(dir), o: LogOptions{FS: disk.OS{}}, sealing: zstd.Codec{Level: zstd.SpeedFastest}}
}

// Adopt vouches for what was prepared, in its order, and returns it as it stands in the manifest. It believes no more than
// it sees: a file that is not what was said of it is refused. A part that the manifest knows is not added twice. What cannot
// be adopted is removed.
func (l *Log) Adopt(parts []Prepared) ([]Part, error) {
	var adopted []Part
	for i := range parts {
		p, err := l.adopt(&parts[i])
		if err != nil {
			l.discard(parts[i:])
			return adopted, fmt.Errorf("datasets: sealing %s: %w", parts[i].Part.place(), err)
		}
		adopted = append(adopted, p)
	}
	return adopted, nil
}

func (l *Log) adopt(ready *Prepared) (Part, error) {
	if err := l.inspect(ready); err != nil {
		return Part{}, err
	}
	p := ready.Part
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return Part{}, err
	}
	if seq, ok := l.m.holds(&p); ok {
		l.discard([]Prepared{*ready})
		if live := l.m.live[seq]; live != nil {
			return *live, nil
		}
		p.Seq = seq
		return p, nil
	}
	if err := l.m.check(&p); err != nil {
		return Part{}, err
	}
	if err := disk.MakeFolder(l.o.FS, l.dir, filepath.Dir(l.file(&p))); err != nil {
		return Part{}, err
	}
	if err := l.install(ready.Temp, l.file(&p)); err != nil {
		return Part{}, err
	}
	p, err := l.m.append(l.o.FS, filepath.Join(l.dir, manifestName), p)
	if err != nil {
		return Part{}, fmt.Errorf("adding it to the manifest: %w", err)
	}
	return p, nil
}

// arrive brings a merged part to where it waits for its line.
func (l *Log) arrive(merged Prepared) error {
	err := l.inspect(&merged)
	if err == nil {
		err = l.install(merged.Temp, l.file(&merged.Part)+arriving)
	}
	if err != nil {
		l.discard([]Prepared{merged})
	}
	return err
}

// inspect looks whether a file is what was said of it. Another process may have said it.
func (l *Log) inspect(ready *Prepared) error {
	p := &ready.Part
	if !isTemp(ready.Temp) {
		return fmt.Errorf("%q is no name of a part that was prepared", ready.Temp)
	}
	if p.Seq != 0 || p.Prev != "" || len(p.Replaces) > 0 || p.Path != p.place() {
		return fmt.Errorf("%q claims a place that is not its own", p.Path)
	}
	f, err := l.openTemp(ready.Temp, p)
	if err != nil {
		return err
	}
	return f.Close()
}

// install gives a file its name, and makes the name durable.
func (l *Log) install(temp, path string) error {
	if err := l.o.FS.Rename(l.at(temp), path); err != nil {
		return err
	}
	return l.o.FS.SyncDir(filepath.Dir(path))
}

func isTemp(name string) bool {
	return strings.HasPrefix(name, tempPrefix) && strings.HasSuffix(name, tempSuffix) && filepath.Base(name) == name
}

// discard removes what was prepared for nothing. What it cannot remove goes when the log is next opened for writing.
func (l *Log) discard(parts []Prepared) {
	for i := range parts {
		if isTemp(parts[i].Temp) {
			_ = l.o.FS.Remove(l.at(parts[i].Temp))
		}
	}
}

// Discard removes the files that were prepared under a name, by a process that is no more. What it cannot remove goes when
// the log is next opened for writing.
func (l *Log) Discard(name string) {
	if strings.HasPrefix(name, tempName) {
		l.sweep(name)
	}
}

// Discard is Log.Discard without the log.
func Discard(dir, name string) { outside(dir).Discard(name) }

func (l *Log) sweep(prefix string) {
	entries, _ := l.o.FS.ReadDir(l.dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && isTemp(e.Name()) {
			_ = l.o.FS.Remove(l.at(e.Name()))
		}
	}
}
