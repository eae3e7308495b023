package models

import (
	"errors"
	"os"
	"path/filepath"
)

// tempPrefix begins the names of files and folders that are not finished. A registry does not see them.
const tempPrefix = ".tradewind-"

// disk is the handful of durable steps that everything here is made of. Its hook sees each step before it is taken,
// so that a test can end the program there.
type disk struct {
	before func(step, path string)
}

func (d disk) at(step, path string) {
	if d.before != nil {
		d.before(step, path)
	}
}

// writeFile writes a new file and syncs it.
func (d disk) writeFile(path string, b []byte) error {
	d.at("create", path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	d.at("write", path)
	if _, err = f.Write(b); err == nil {
		d.at("sync", path)
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// sync makes the names in a folder durable.
func (d disk) sync(folder string) error {
	d.at("sync", folder)
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// rename gives a finished file or folder its name, durably.
func (d disk) rename(from, to string) error {
	d.at("rename", to)
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return d.sync(filepath.Dir(to))
}
