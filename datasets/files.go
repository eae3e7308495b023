package datasets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// A part stands under its path. For the moments around a compaction it stands in the same folder under its path and one
// of these suffixes, where no pattern that ends in .parquet finds it: the folder shows a row under one name or the other.
const (
	// arriving is a merged part until the manifest vouches for it and its name is free to take.
	arriving = ".new"
	// leaving is a superseded part until the next pass removes it: whoever opened the log before may be reading it.
	leaving = ".old"
)

// Orphans lists the Parquet files in the log's folders that no line of the manifest vouches for: a crash between the
// rename and the line leaves one, and its rows are sealed again. No method reads them.
func (l *Log) Orphans() ([]string, error) {
	files, err := l.files()
	return pick(files, func(f logFile) bool { return f.seq == 0 }), err
}

// Leftovers lists the files of superseded parts. The next pass of Compact or the next process that opens the log for
// writing removes them.
func (l *Log) Leftovers() ([]string, error) {
	files, err := l.files()
	return pick(files, func(f logFile) bool { return f.seq != 0 && !f.live }), err
}

func pick(files []logFile, want func(logFile) bool) []string {
	var names []string
	for _, f := range files {
		if want(f) {
			names = append(names, f.name())
		}
	}
	return names
}

// logFile is a file in the log's folders and what the manifest says of it. Names are as in the manifest.
type logFile struct {
	path, suffix string
	// seq is the line of its path, 0 where there is none.
	seq  int64
	live bool
}

func (f *logFile) name() string { return f.path + f.suffix }

// files lists what lies in the log's folders, in order.
func (l *Log) files() ([]logFile, error) {
	var all []logFile
	for _, kind := range []Kind{KindFeedback, KindRounds} {
		err := l.walk(string(kind), func(name string) {
			for _, suffix := range []string{"", arriving, leaving} {
				if p, ok := strings.CutSuffix(name, parquetFile+suffix); ok {
					all = append(all, logFile{path: p + parquetFile, suffix: suffix})
				}
			}
		})
		if err != nil {
			return nil, fmt.Errorf("datasets: listing log %s: %w", l.dir, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range all {
		all[i].seq = l.m.known[all[i].path].seq
		all[i].live = l.m.live[all[i].seq] != nil
	}
	return all, nil
}

// walk visits the files below a folder of the log, in order.
func (l *Log) walk(folder string, visit func(name string)) error {
	entries, err := l.o.FS.ReadDir(filepath.Join(l.dir, filepath.FromSlash(folder)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if name := path.Join(folder, e.Name()); !e.IsDir() {
			visit(name)
		} else if err := l.walk(name, visit); err != nil {
			return err
		}
	}
	return err
}

// settle brings every file under the name that the manifest gives it, whatever an earlier pass or a crash left, and
// returns how many superseded files it removed:
//
//	               live        superseded   no line
//	x.parquet      stays       → .old       stays: it is sealed again, or a person put it there
//	x.parquet.new  → its path  removed      removed: the pass that wrote it is tried again
//	x.parquet.old  → its path  removed      stays
func (l *Log) settle() (removed int, err error) {
	l.mu.Lock()
	doubt := l.m.doubt
	l.mu.Unlock()
	if doubt {
		return 0, errors.New("the last line of the manifest may be on the disk or not: nothing is removed before another is")
	}
	files, err := l.files()
	if err != nil {
		return 0, err
	}
	touched := map[string]bool{}
	for _, f := range files {
		from := l.at(f.name())
		switch {
		case f.live && f.suffix != "":
			err = l.o.FS.Rename(from, l.at(f.path))
		case f.live, f.seq == 0 && f.suffix != arriving:
			continue
		case f.seq != 0 && f.suffix == "":
			err = l.o.FS.Rename(from, from+leaving)
		default:
			if err = l.o.FS.Remove(from); err == nil && f.seq != 0 {
				removed++
			}
		}
		if err != nil {
			return removed, err
		}
		touched[path.Dir(f.path)] = true
	}
	return removed, l.tidy(touched)
}

// tidy makes the names in folders durable, and removes folders that are empty with their day where that is empty too.
func (l *Log) tidy(folders map[string]bool) error {
	for folder := range folders {
		for {
			entries, err := l.o.FS.ReadDir(l.at(folder))
			if err != nil {
				return err
			}
			if len(entries) > 0 || !strings.Contains(folder, "/") {
				break
			}
			// Sealing makes the folder that it needs under the same lock: none goes while a part is on its way there.
			if err := l.removeEmpty(folder); err != nil {
				return err
			}
			folder = path.Dir(folder)
		}
		if err := l.o.FS.SyncDir(l.at(folder)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) removeEmpty(folder string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries, err := l.o.FS.ReadDir(l.at(folder))
	if err != nil || len(entries) > 0 {
		return err
	}
	return l.o.FS.Remove(l.at(folder))
}

// at is the place of a name of the manifest.
func (l *Log) at(name string) string { return filepath.Join(l.dir, filepath.FromSlash(name)) }

func (l *Log) file(p *Part) string { return l.at(p.Path) }

// open returns the part's file, under whichever of its names, after its length and SHA-256 have been found to be those
// of the manifest.
func (l *Log) open(p *Part) (disk.File, error) {
	f, err := l.find(p)
	if err != nil {
		return nil, err
	}
	return verified(f, p)
}

// openTemp is open for a part that stands under a temporary name.
func (l *Log) openTemp(temp string, p *Part) (disk.File, error) {
	f, err := l.o.FS.OpenFile(l.at(temp), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return verified(f, p)
}

// verified returns f where it is p's, and closes it otherwise.
func verified(f disk.File, p *Part) (disk.File, error) {
	sum, size, err := hashFile(context.Background(), f)
	if err == nil && (size != p.Bytes || sum != p.SHA256) {
		err = fmt.Errorf("it was altered: %d bytes with SHA-256 %s, sealed were %d with %s", size, sum, p.Bytes, p.SHA256)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// find looks under the path twice: between the two looks the part may have arrived.
func (l *Log) find(p *Part) (f disk.File, err error) {
	for _, suffix := range []string{"", arriving, "", leaving} {
		var missing error
		f, missing = l.o.FS.OpenFile(l.file(p)+suffix, os.O_RDONLY, 0)
		if !errors.Is(missing, fs.ErrNotExist) {
			return f, missing
		}
		err = cmp.Or(err, missing)
	}
	// Is it gone, or was it superseded since?
	now := Log{dir: l.dir, o: l.o}
	if now.readManifest() == nil && p.Seq <= now.m.lines && now.m.live[p.Seq] == nil {
		return nil, ErrStale
	}
	return nil, err
}
