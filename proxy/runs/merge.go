package runs

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// errExtra says that the two clients' ways of merging extra would differ.
var errExtra = errors.New("the update's extra leaves out some of the create's")

// Merge folds a run's update into its create, as the SDKs do within a batch:
// members of the update that are not null win, one by one, and a field that
// travels beside the object replaces the create's whole.
//
// Of extra the SDKs make two things: Python's has the update's replace the
// create's, Go's merges the two in depth (LangSmith SDK:
// combine_serialized_queue_operations; langsmith-go: models/merge.go). What
// LangSmith makes of an update that comes by itself is not known. So the two
// are merged only where all of these come to the same: the update repeats, or
// names anew, all that the create says, as SDKs' updates do.
//
// Both must be of one run. The result is a Create; it refers to both. An error
// says that one of them is not a JSON object, or that their extra differs in
// the way said above; both are then best sent as they are.
func Merge(create, update *Op) (Op, error) {
	if create.Kind != Create || update.Kind != Update || create.ID != update.ID {
		return Op{}, fmt.Errorf("merge %s %s into %s %s: not a create and the update of the same run",
			update.Kind, update.ID, create.Kind, create.ID)
	}
	merged := *create
	body, err := mergeObjects(create.Body, update.Body)
	if err != nil {
		return Op{}, fmt.Errorf("merge the update of run %s: %w", create.ID, err)
	}
	merged.Body = body
	if merged.NoProject {
		named, err := namesProject(update.Body)
		if err != nil {
			return Op{}, fmt.Errorf("merge the update of run %s: %w", create.ID, err)
		}
		merged.NoProject = !named
	}
	if merged.Trace.IsZero() {
		merged.Trace = update.Trace
	}
	for f, value := range update.Fields {
		switch {
		case value == nil || isNull(value):
		case Field(f) == Extra && !bytes.Equal(value, merged.Fields[f]):
			if err := covers(value, merged.Fields[f]); err != nil {
				return Op{}, fmt.Errorf("merge extra of run %s: %w", create.ID, err)
			}
			merged.Fields[f] = value
		default:
			merged.Fields[f] = value
		}
	}
	return merged, nil
}

// WithProject returns a run's object with session_name set to a project.
func WithProject(body []byte, project string) ([]byte, error) {
	name, err := jsontext.AppendQuote(nil, project)
	if err != nil {
		return nil, fmt.Errorf("write the project's name: %w", err)
	}
	var list []member
	err = eachMember(body, func(m member) error {
		if string(m.name) != "session_name" {
			list = append(list, m)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("name the project of a run: %w", err)
	}
	return appendObject(make([]byte, 0, len(body)+len(name)+len(`"session_name":,`)),
		append(list, member{[]byte("session_name"), name})), nil
}

// namesProject reports whether a run's object says which project it is of.
func namesProject(body []byte) (named bool, err error) {
	err = eachMember(body, func(m member) error {
		if n := string(m.name); (n == memberProjectName || n == memberProjectID || n == memberAddress) && !isNull(m.value) {
			named = true
		}
		return nil
	})
	return named, err
}

// member is one member of a JSON object. value refers to the object.
type member struct {
	name  []byte // unescaped
	value []byte
}

// covers returns nil if the later value says everything that the earlier one
// does, in objects member by member: laid over the earlier one in depth, it is
// then the same as in its place.
func covers(later, earlier []byte) error {
	switch {
	case len(earlier) == 0 || isNull(earlier):
		return nil
	case isNull(later) || isObject(earlier) != isObject(later):
		return errExtra
	case !isObject(earlier):
		return nil
	}
	members := map[string][]byte{}
	err := eachMember(later, func(m member) error {
		members[string(m.name)] = m.value
		return nil
	})
	if err != nil {
		return err
	}
	return eachMember(earlier, func(m member) error {
		value, ok := members[string(m.name)]
		if !ok {
			return errExtra
		}
		return covers(value, m.value)
	})
}

// mergeObjects returns into with from's members that are not null set in it.
func mergeObjects(into, from []byte) ([]byte, error) {
	var list []member
	at := map[string]int{}
	err := eachMember(into, func(m member) error {
		at[string(m.name)] = len(list)
		list = append(list, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = eachMember(from, func(m member) error {
		if isNull(m.value) {
			return nil
		}
		i, have := at[string(m.name)]
		if !have {
			at[string(m.name)] = len(list)
			list = append(list, m)
			return nil
		}
		list[i].value = m.value
		return nil
	})
	if err != nil {
		return nil, err
	}
	return appendObject(make([]byte, 0, len(into)+len(from)), list), nil
}

// appendObject writes members as an object.
func appendObject(dst []byte, members []member) []byte {
	dst = append(dst, '{')
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		// Names come out of a decoder, so they can be quoted; what was not
		// valid UTF-8 in them has become the replacement character.
		dst, _ = jsontext.AppendQuote(dst, m.name)
		dst = append(dst, ':')
		dst = append(dst, m.value...)
	}
	return append(dst, '}')
}

func isNull(value []byte) bool { return string(value) == "null" }

func isObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }
