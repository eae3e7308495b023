// Package models keeps trained routers as bytes: artifacts, the sections they are made of, the manifest that vouches
// for them, and the registry whose one pointer says which of them serves.
//
// An artifact is a folder: manifest.json and one file a section. The digest is the artifact's name; it covers the
// names and hashes of the sections and never a date, a path or a host, so equal training gives an equal name. The
// package does not know what the sections mean (package classifier does) and it is not a list of LLMs: those are arms,
// in models/catalog.
package models

import (
	"errors"
	"time"
)

// Format is the manifest's version. An artifact of a newer one is refused, never half understood.
const Format = 1

// What an artifact and a registry may hold. Beyond any of these a folder is refused, not trimmed.
const (
	SectionsMax      = 64
	SectionNameMax   = 64
	SectionBytesMax  = 1 << 30
	ArtifactBytesMax = 2 << 30
	ManifestBytesMax = 1 << 20
	EntriesMax       = 10_000
)

// What callers branch on.
var (
	ErrCorrupt     = errors.New("models: damaged")
	ErrNewerFormat = errors.New("models: artifact was written by a newer Tradewind")
	ErrNotPromoted = errors.New("models: registry has no promoted artifact")
	ErrNoPrevious  = errors.New("models: registry has no previous artifact to roll back to")
)

// Digest names an artifact: "tw1-" and 32 hex digits of the SHA-256 over its sections.
type Digest string

// Section is one file of an artifact.
type Section struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// File is one file of a table.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Source is one table that an artifact was trained on.
type Source struct {
	Name    string `json:"name"`
	SHA256  string `json:"sha256,omitempty"`
	Rows    int    `json:"rows"`
	Prompts int    `json:"prompts"`
	// Files are those of a table of several; SHA256 is then that of their digests, one a line.
	Files  []File `json:"files,omitempty"`
	Filter string `json:"filter,omitempty"`
	// Reward is the digest of the Spec that made scores of a log's feedback; empty for an outcome table.
	Reward string `json:"reward,omitempty"`
}

// Provenance says where an artifact comes from. It is for people and is not covered by the digest.
type Provenance struct {
	CreatedAt time.Time `json:"created_at"`
	Program   string    `json:"program"`
	// Command is what was typed to make it.
	Command string   `json:"command,omitempty"`
	Seed    int64    `json:"seed"`
	Sources []Source `json:"sources"`
	Notices []string `json:"notices,omitempty"`
}

// Manifest is manifest.json.
type Manifest struct {
	Format     int        `json:"format"`
	Digest     Digest     `json:"digest"`
	Sections   []Section  `json:"sections"`
	Provenance Provenance `json:"provenance"`
	// Checksum is the SHA-256 of this file written without it. The digest leaves the provenance out; this does not, so
	// that a flipped bit is found there too.
	Checksum string `json:"checksum"`
}
