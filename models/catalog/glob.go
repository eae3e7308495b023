package catalog

import (
	"fmt"
	"strings"
)

// ValidateGlob refuses a glob that would silently name nothing: an empty one, and one that means another dialect's
// wildcards. No arm's id has these characters.
func ValidateGlob(glob string) error {
	if glob == "" || strings.ContainsAny(glob, "?[]{}\\") {
		return fmt.Errorf("catalog: %q is not a glob over provider/model; a star is its only wildcard", glob)
	}
	return nil
}

// Matches reports whether a glob of an allow or deny list names the arm. A star stands for any run of characters,
// slashes included, since many vendors have slashes in their own names of models: "fireworks-ai/*" is all of that
// provider. A glob without a slash names the model at any provider.
func (id ArmID) Matches(glob string) bool {
	return MatchGlob(glob, string(id)) || !strings.Contains(glob, "/") && MatchGlob(glob, id.Model())
}

// MatchesAny reports whether one of the globs names the arm.
func (id ArmID) MatchesAny(globs []string) bool {
	for _, g := range globs {
		if id.Matches(g) {
			return true
		}
	}
	return false
}

// MatchGlob reports whether a name is what a glob says, in which a star stands for any run of characters.
func MatchGlob(glob, name string) bool {
	first, rest, star := strings.Cut(glob, "*")
	if !star {
		return glob == name
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	for name = name[len(first):]; ; {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], more
	}
}
