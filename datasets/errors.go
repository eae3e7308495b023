package datasets

import (
	"errors"
	"fmt"
)

// The limits of what is read. Reaching one is an error that names it, never a cut.
const (
	// FilesMax is the number of files that one path may stand for.
	FilesMax = 10_000
	// CellsMax bounds the rows of a table and also its prompts × arms.
	CellsMax = 1 << 27
	// ArmsMax and TasksMax bound the distinct arms and tasks of a table.
	ArmsMax  = 4096
	TasksMax = 65_536
	// NameBytesMax is the length of a prompt_id, dataset, split or model.
	NameBytesMax = 4096
	// PromptBytesMax is the length of one prompt.
	PromptBytesMax = 16 << 20
	// LineBytesMax is the length of one record of a CSV or JSONL file.
	LineBytesMax = 64 << 20
)

// ErrIsLog says that an outcome table was asked for where a round log stands; see OpenLog.
var ErrIsLog = errors.New("it is a round log, not an outcome table")

// RowError says what is wrong with one row of a table.
type RowError struct {
	File string
	// Row counts from 1: data rows of a Parquet file, lines of a text file (Line is true).
	Row    int64
	Line   bool
	Column string
	// Problem is the rest of the sentence, such as "1.2 is not in [0,1]".
	Problem string
}

// Error names the file, the row or line, and the column.
func (e *RowError) Error() string {
	unit := "row"
	if e.Line {
		unit = "line"
	}
	if e.Column == "" {
		return fmt.Sprintf("datasets: %s: %s %d: %s", e.File, unit, e.Row, e.Problem)
	}
	return fmt.Sprintf("datasets: %s: %s %d, column %s: %s", e.File, unit, e.Row, e.Column, e.Problem)
}

// guard runs f and turns a panic into an error. Parquet readers panic on damaged bytes now and then; this is the
// boundary at which that stops. No caller's function may run inside it.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the file is damaged (%v)", r)
		}
	}()
	return f()
}
