package runs

import (
	"encoding/hex"
	"fmt"
)

// ID is a UUID: of a run, a trace (its root run), or a feedback. The zero ID
// stands for one that is not known.
type ID [16]byte

const (
	bareIDLen = 32 // hexadecimal digits
	idLen     = 36 // with hyphens
)

// ParseID reads a UUID in its hyphenated form or as 32 hexadecimal digits,
// which LangSmith takes both (LangSmith docs: trace-with-api), in any letter
// case. The zero UUID is refused: no run can have it.
func ParseID[S string | []byte](text S) (ID, error) {
	var id ID
	var bare [bareIDLen]byte
	switch {
	case len(text) == bareIDLen:
		copy(bare[:], text)
	case len(text) == idLen && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-':
		copy(bare[:8], text[:8])
		copy(bare[8:12], text[9:13])
		copy(bare[12:16], text[14:18])
		copy(bare[16:20], text[19:23])
		copy(bare[20:], text[24:])
	default:
		return ID{}, fmt.Errorf("%.60q is not a UUID", text)
	}
	if _, err := hex.Decode(id[:], bare[:]); err != nil {
		return ID{}, fmt.Errorf("%.60q is not a UUID", text)
	}
	if id.IsZero() {
		return ID{}, fmt.Errorf("%.60q is the zero UUID, which names nothing", text)
	}
	return id, nil
}

// IsZero reports whether the id is not known.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the hyphenated form in lower case.
func (id ID) String() string { return string(id.AppendString(make([]byte, 0, idLen))) }

// AppendString appends what String returns.
func (id ID) AppendString(dst []byte) []byte {
	for i, n := range [...]int{4, 2, 2, 2, 6} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, id[:n])
		copy(id[:], id[n:])
	}
	return dst
}
