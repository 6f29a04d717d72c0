package runs

import "encoding/json"

// Project is the project that a run's object names: its session_name, else its
// session_id with "id:" before it, else nothing.
func (op *Op) Project() string {
	var name, id string
	_ = EachMember(op.Body, func(member string, value []byte) error { // it was read before
		switch member {
		case "session_name":
			_ = json.Unmarshal(value, &name) // null, or no text: none
		case "session_id":
			_ = json.Unmarshal(value, &id)
		}
		return nil
	})
	if name == "" && id != "" {
		return "id:" + id
	}
	return name
}
