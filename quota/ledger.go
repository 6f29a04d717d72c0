package quota

import "time"

// TraceID identifies what LangSmith bills.
type TraceID = [16]byte

// State is what has become of a trace in an account. The numbers are written to
// disk: never reuse one.
type State uint8

// The states of a trace.
const (
	// Unknown: nothing of it has been seen, or it is long forgotten.
	Unknown State = 0
	// Reserved: admitted, and to be delivered; it takes its share of the limit.
	Reserved State = 1
	// Held: kept back on disk. It takes no share.
	Held State = 2
	// Dropped: not kept. It is remembered, so that what comes later of it is
	// dropped, too, also after the limit was raised.
	Dropped State = 3
	// Counted: something of it was delivered in the month of its entry.
	Counted State = 4
	// Releasing: let go from Held, and on its way out of the hold. It takes its
	// share of the limit. What comes of it meanwhile joins the hold, so that
	// nothing overtakes what is still there.
	Releasing State = 5
	// Follower: only attachments or feedback of it have been seen: its runs were
	// sent by other means. Such are passed on and not counted.
	Follower State = 6
)

// String is the state's name as it is shown.
func (s State) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Reserved:
		return "reserved"
	case Held:
		return "held"
	case Dropped:
		return "dropped"
	case Counted:
		return "counted"
	case Releasing:
		return "releasing"
	case Follower:
		return "follower"
	default:
		return "state?"
	}
}

// takesShare reports whether a trace in the state takes part of a limit before
// it is delivered.
func (s State) takesShare() bool { return s == Reserved || s == Releasing }

// Trace is what is asked about one trace.
type Trace struct {
	ID TraceID
	// Project is the project it belongs to, empty for the default one. What is
	// said of a trace when it is new stands; what comes later is not looked at.
	Project string
	// Failed: something of it shows an error.
	Failed bool
	// Follows: it is not begun here, only added to.
	Follows bool
	// Refuse treats it as beyond the limit if it is new.
	Refuse bool
}

// Limits bound what an account takes in a month. A negative number is no limit.
type Limits struct {
	// Traces is the most that may be counted in the month, reserved and
	// releasing together.
	Traces int64
	// Project is the same for one project; nil for no such limits.
	Project func(project string) int64
}

// Claim asks for a decision about traces: those that are new are reserved while
// there is room, and others get what is due to them.
type Claim struct {
	Account string
	Month   Month     // never goes back within a ledger: earlier ones count as its latest
	At      time.Time // for the statistics by day
	Traces  []Trace
	Limits  Limits
	// Over is what becomes of a new trace beyond the limits: Held or Dropped. One
	// that was counted in an earlier month is held instead of dropped.
	Over State
	// Revoke takes back reservations beyond Limits.Traces, also of what is
	// Releasing, of traces of which nothing can have arrived upstream yet: they
	// are Held. Set before sending;
	// a Follower stays one then.
	Revoke bool
	// UnderWay reports whether something of a trace is being sent, so that Revoke
	// passes over it; nil: nothing is. It must not call the ledger.
	UnderWay func(TraceID) bool
}

// Verdict is the decision about one trace of a Claim.
type Verdict struct {
	State State // as it is now
	// Fresh: the claim brought it into this state. Exactly one of several
	// claims of the same trace is told so.
	Fresh bool
}

// Selection says which traces a Move takes.
type Selection struct {
	Account string
	Month   Month
	At      time.Time
	IDs     []TraceID
	From    State
	To      State
	// Limits bound moves to a state that takes a share.
	Limits Limits
	// Most is how many are moved, at most; negative for all.
	Most int64
	// OnlyFailed passes over traces that show no error.
	OnlyFailed bool
	// Project passes over traces of other projects; nil: none.
	Project *string
}

// Totals are an account's figures. Used, Held, Releasing and Reserved are of
// now; Counted and Dropped of the month.
type Totals struct {
	Month     Month
	Counted   int64 // delivered in the month
	Next      int64 // of the next month: delivered before this one had ended here
	Reserved  int64 // admitted and not delivered
	Releasing int64
	Held      int64
	Dropped   int64 // in the month
}

// Used is what counts against a limit.
func (t Totals) Used() int64 { return t.Counted + t.Next + t.Reserved + t.Releasing }

// ProjectTotals are the figures of one project.
type ProjectTotals struct {
	Project string // empty: data that named none
	Totals
}

// DayTotals count new traces on one day.
type DayTotals struct {
	Day     Day
	Counted int64 // delivered
	Wanted  int64 // seen for the first time, whatever became of them
}

// Ledger is the exact and durable record of what became of every trace, by
// account. Accounts are named by the caller and begin to exist with the first
// claim, count or restored trace, in the ledger's month. All methods may be called from any number of goroutines, and each is
// atomic: of N claims at once that find room for one more trace, one gets it.
//
// Unless a method says that it is durable when it returns, what it changed
// survives the death of the process, and perhaps not that of the machine.
type Ledger interface {
	// Claim decides about traces, and returns a verdict for each in their order.
	// New drops are durable.
	Claim(c *Claim) ([]Verdict, error)
	// Count notes that something of the traces was delivered in a month.
	// Durable. A month later than the ledger's is one that has turned upstream
	// and not here yet, and is taken for the next one: the traces then count as
	// Totals.Next, and those that were counted in this month stay so. Followers
	// are not counted.
	Count(account string, month Month, at time.Time, ids []TraceID) error
	// Attempted notes that something of the traces may have arrived upstream
	// although nobody said so: their reservations cannot be taken back. One that
	// was counted in an earlier month is reserved, whatever the limits: the month
	// has turned while it was on its way. Durable.
	Attempted(account string, ids []TraceID) error
	// Arrived tells of traces whether something of them may be with the upstream:
	// it was delivered, in this month or the one before, or an attempt was noted,
	// or others began it. It changes nothing.
	Arrived(account string, ids []TraceID) ([]bool, error)
	// Refund forgets reservations of which nothing can have arrived. Those of
	// traces that were counted in an earlier month are Counted again.
	Refund(account string, ids []TraceID) error
	// Restore notes traces of which data was found in the given state (Reserved
	// or Held), where nothing is known of them.
	Restore(account string, month Month, ids []TraceID, s State) error
	// Move takes traces from one state to another, in the order of IDs, and
	// reports which. Durable if they are Dropped.
	Move(s *Selection) (moved []bool, err error)
	// States tells the states of traces. One that was counted in an earlier
	// month than the account's is Counted all the same.
	States(account string, ids []TraceID) ([]State, error)
	// Recall tells what is known of one trace, and changes nothing.
	Recall(account string, id TraceID) (Memory, error)
	// Turn begins a month for every account. It goes back only while nothing was
	// ever counted: the first month may have been a wrong clock's.
	Turn(month Month) error
	// Unite makes account from part of account into: a trace that both know is
	// one. From is then empty.
	Unite(from, into string) error
	// Each calls fn for the traces of an account that are in a state, in any
	// order, until it returns false. Those that change meanwhile may be missed.
	Each(account string, s State, fn func(TraceID) bool) error

	// Accounts lists the accounts by name.
	Accounts() []string
	// Totals are an account's figures; zero for one that is not known.
	Totals(account string) Totals
	// Projects are the figures by project, most used first, at most 1,024 and
	// one for all others together, named "…".
	Projects(account string) []ProjectTotals
	// Days are the last 62 days on which there was a new trace, oldest first.
	Days(account string) []DayTotals
	// Past is how many traces were counted in an earlier month; ok is false if
	// that is not known.
	Past(account string, month Month) (counted int64, ok bool)

	// SetNote keeps a small fact of the caller's, at most 64 KiB; nil removes
	// it. Durable.
	SetNote(name string, value []byte) error
	// Note returns it, nil if there is none. It must not be changed.
	Note(name string) []byte

	// Whole reports whether everything written is known to be there: false for a
	// new ledger, and after the machine died or something was damaged. What data
	// there is must then be restored.
	Whole() bool
	// Close makes everything durable and ends the ledger.
	Close() error
}
