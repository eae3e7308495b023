package datasets

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// GroupRowsMax is the number of rows in one row group of an outcome table, which is also what a writer holds in memory.
const GroupRowsMax = 40_000

// atomicFile is a file that appears under its name whole or not at all.
type atomicFile struct {
	fs   disk.FS
	f    disk.File
	temp string
	path string
	hash hash.Hash
	n    int64
}

// createAtomic begins a file under the name temp.
func createAtomic(fsys disk.FS, temp, path string, mode os.FileMode) (*atomicFile, error) {
	f, err := disk.Create(fsys, temp, mode)
	if err != nil {
		return nil, err
	}
	return &atomicFile{fs: fsys, f: f, temp: temp, path: path, hash: sha256.New()}, nil
}

// Write also feeds the digest.
func (a *atomicFile) Write(p []byte) (int, error) {
	n, err := a.f.Write(p)
	a.hash.Write(p[:n])
	a.n += int64(n)
	return n, err
}

func (a *atomicFile) sum() string { return hex.EncodeToString(a.hash.Sum(nil)) }

// commit makes the file durable under its name. After an error nothing new stands there.
func (a *atomicFile) commit() error {
	err := errors.Join(a.f.Sync(), a.f.Close())
	if err == nil {
		err = a.fs.Rename(a.temp, a.path)
	}
	if err != nil {
		_ = a.fs.Remove(a.temp)
		return err
	}
	return a.fs.SyncDir(filepath.Dir(a.path))
}

func (a *atomicFile) abort() {
	_ = a.f.Close()
	_ = a.fs.Remove(a.temp)
}

// writerOptions are those of everything that is written here. What can be megabytes long gets no least and greatest value:
// nobody looks for prompts by their order, and the two would stand whole in a page's header.
func writerOptions(codec *zstd.Codec, groupRows int64) []parquet.WriterOption {
	o := []parquet.WriterOption{parquet.Compression(codec), parquet.MaxRowsPerRowGroup(groupRows)}
	for _, long := range [...]string{"prompt", "case", "features", "tags"} {
		o = append(o, parquet.SkipPageBounds(long), parquet.SkipPageStatistics(long))
	}
	return o
}

// TableWriter writes an outcome table as Parquet. Nothing stands at the path until Close, which replaces what did.
type TableWriter struct {
	file *atomicFile
	w    *parquet.GenericWriter[Row]
	rec  record
	rows int64
	err  error
}

// CreateTable starts a table at path. Exactly one of Close and Abort must follow; a second call does nothing.
func CreateTable(path string) (*TableWriter, error) {
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".tradewind-%016x.tmp", rand.Uint64()))
	file, err := createAtomic(disk.OS{}, temp, path, 0o644)
	if err != nil {
		return nil, fmt.Errorf("datasets: creating %s: %w", path, err)
	}
	w := parquet.NewGenericWriter[Row](file, writerOptions(&zstd.Codec{}, GroupRowsMax)...)
	return &TableWriter{file: file, w: w}, nil
}

// Write adds rows. A row that ReadTable would refuse is a *RowError and ends the writing.
func (t *TableWriter) Write(rows []Row) error {
	if t.file == nil {
		return errors.New("datasets: write to a closed table")
	}
	if t.err != nil {
		return t.err
	}
	for i := range rows {
		t.rec.fromRow(&rows[i])
		if column, problem := t.rec.check(); problem != "" {
			t.err = &RowError{File: t.file.path, Row: t.rows + int64(i) + 1, Column: column, Problem: problem}
			return t.err
		}
	}
	if _, err := t.w.Write(rows); err != nil {
		t.err = fmt.Errorf("datasets: writing %s: %w", t.file.path, err)
		return t.err
	}
	t.rows += int64(len(rows))
	return nil
}

// Close finishes the file, makes it durable and gives it its name. After an error of Write it aborts and returns that.
func (t *TableWriter) Close() error {
	if t.file == nil {
		return nil
	}
	if t.err == nil {
		t.err = t.w.Close()
	}
	if t.err != nil {
		t.Abort()
		return t.err
	}
	file := t.file
	t.file = nil
	if err := file.commit(); err != nil {
		return fmt.Errorf("datasets: writing %s: %w", file.path, err)
	}
	return nil
}

// Abort drops everything. After Close it does nothing.
func (t *TableWriter) Abort() {
	if t.file != nil {
		t.file.abort()
		t.file = nil
	}
}
