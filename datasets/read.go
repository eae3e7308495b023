package datasets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// ReadOptions narrow a table down. The zero value reads all of it.
type ReadOptions struct {
	// Arms are globs (path.Match, so * stops at a slash) over arm ids; empty is all. A glob without a match is an error.
	Arms []string
	// Datasets are globs over the dataset column; empty is all.
	Datasets []string
	// PromptsMax, where set, keeps of a table with more prompts so many, the first in hash order and in that order, as
	// Subset and InHashOrder would of the whole. They are chosen while reading, so memory is bounded by the sample.
	// Every row is checked, but that a prompt has one text and an arm once is seen only of prompts in the sample.
	PromptsMax int
	// Progress is told how many bytes of all files are done; nil is silent.
	Progress func(done, total int64)
}

// Validate finds globs that are none and a sample of less than nothing.
func (o *ReadOptions) Validate() error {
	if o.PromptsMax < 0 {
		return fmt.Errorf("datasets: at most %d prompts: want 0 or more", o.PromptsMax)
	}
	for _, glob := range slices.Concat(o.Arms, o.Datasets) {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("datasets: glob %q: %w", glob, err)
		}
	}
	return nil
}

// ReadTable reads an outcome table from a file (.parquet, .csv, .jsonl), a folder of them or a glob, files in the order
// of their paths. Prompts and arms stand in order of first appearance, prompts of a sample in hash order.
//
// Nobody vouches for such a file: it is read by parquet-go alone, on the calling goroutine, and its SHA-256 goes into
// the table (of several files, the SHA-256 of their digests, one a line). A damaged file is an error and never a
// panic, but a flipped bit that still makes sense cannot be seen.
func ReadTable(ctx context.Context, path string, o ReadOptions) (*Table, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	files, total, err := resolve(path)
	if err != nil {
		return nil, err
	}
	b := newBuilder(o.Arms, o.Datasets)
	b.sample.max = o.PromptsMax
	sums := make([]string, len(files))
	done := int64(0)
	for i, f := range files {
		progress := func(n int64) {
			if o.Progress != nil {
				o.Progress(done+n, total)
			}
		}
		if sums[i], err = b.readFile(ctx, f.path, progress); err != nil {
			return nil, err
		}
		done += f.size
		progress(0)
	}
	t, err := b.table()
	if err != nil {
		return nil, inFile(err, path)
	}
	t.Name, t.SHA256 = tableName(path), sums[0]
	if len(sums) > 1 {
		sum := sha256.Sum256([]byte(strings.Join(sums, "\n") + "\n"))
		t.SHA256 = hex.EncodeToString(sum[:])
		for i, f := range files {
			t.Files = append(t.Files, SourceFile{tableName(f.path), sums[i]})
		}
	}
	return t, nil
}

// inFile adds the path to an error that does not name a file yet.
func inFile(err error, path string) error {
	var row *RowError
	if errors.As(err, &row) {
		return err
	}
	return fmt.Errorf("datasets: reading %s: %s", path, strings.TrimPrefix(err.Error(), "datasets: "))
}

// tableName is the last two elements of a path: many tables are called train.parquet.
func tableName(path string) string {
	path = filepath.ToSlash(filepath.Clean(path))
	parts := strings.Split(path, "/")
	return strings.TrimPrefix(strings.Join(parts[max(0, len(parts)-2):], "/"), "/")
}

func (b *builder) readFile(ctx context.Context, name string, progress func(int64)) (sum string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("datasets: %w", err)
	}
	defer f.Close()
	sum, size, err := hashFile(ctx, f)
	if err != nil {
		return "", fmt.Errorf("datasets: reading %s: %w", name, err)
	}
	if size == 0 {
		return "", fmt.Errorf("datasets: reading %s: the file is empty", name)
	}
	kind := fileKind(name)
	b.startFile(name, kind != parquetFile)
	if kind == parquetFile {
		row := int64(0)
		return sum, readParquet(ctx, f, size, name, func(r *record) (string, string) {
			row++
			return b.add(r, row)
		}, progress)
	}
	in := &counting{r: f, progress: progress}
	return sum, readText(ctx, in, &textSource{name: name, lineMax: LineBytesMax, take: b.add}, kind)
}

func readText(ctx context.Context, r io.Reader, s *textSource, kind string) error {
	if kind == csvFile {
		return s.readCSV(ctx, r)
	}
	return s.readJSONL(ctx, r)
}

// counting reports how far a reader has come.
type counting struct {
	r        io.Reader
	n        int64
	progress func(int64)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.progress(c.n)
	return n, err
}

// hashFile reads f through and leaves it at its start.
func hashFile(ctx context.Context, f io.ReadSeeker) (sum string, size int64, err error) {
	h := sha256.New()
	for {
		if err := ctx.Err(); err != nil {
			return "", 0, err
		}
		n, err := io.CopyN(h, f, 16<<20)
		size += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", 0, err
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return hex.EncodeToString(h.Sum(nil)), size, err
}

// The kinds of file, by the end of their names.
const (
	parquetFile = ".parquet"
	csvFile     = ".csv"
	jsonlFile   = ".jsonl"
)

// fileKind is one of the kinds, or "".
func fileKind(name string) string {
	kind := strings.ToLower(filepath.Ext(name))
	if !slices.Contains([]string{parquetFile, csvFile, jsonlFile}, kind) {
		return ""
	}
	return kind
}

type sizedFile struct {
	path string
	size int64
}

// resolve turns a path into the files it stands for, in a fixed order. What stands there literally wins over a glob.
func resolve(path string) (files []sizedFile, total int64, err error) {
	info, err := os.Stat(path)
	var names []string
	switch {
	case err == nil && info.IsDir():
		names, err = tableFiles(path)
	case err == nil:
		names = []string{path}
	case errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(path, "*?["):
		if names, err = filepath.Glob(path); err == nil && len(names) == 0 {
			err = fmt.Errorf("no file matches %s", path)
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("datasets: %w", err)
	}
	if len(names) > FilesMax {
		return nil, 0, fmt.Errorf("datasets: %s stands for more than %d files", path, FilesMax)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, 0, fmt.Errorf("datasets: %w", err)
		}
		if !info.Mode().IsRegular() {
			return nil, 0, fmt.Errorf("datasets: %s is not a regular file", name)
		}
		if fileKind(name) == "" {
			return nil, 0, fmt.Errorf("datasets: %s: its name must end in .parquet, .csv or .jsonl", name)
		}
		files = append(files, sizedFile{name, info.Size()})
		total += info.Size()
	}
	return files, total, nil
}

// tableFiles lists the tables under a folder, hidden files and folders left out.
func tableFiles(dir string) (names []string, err error) {
	if IsLog(dir) {
		return nil, fmt.Errorf("%s: %w", dir, ErrIsLog)
	}
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != dir && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
		case !d.IsDir() && fileKind(name) != "":
			names = append(names, name)
		}
		if len(names) > FilesMax {
			return fs.SkipAll
		}
		return nil
	})
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s holds no .parquet, .csv or .jsonl file", dir)
	}
	return names, err
}
