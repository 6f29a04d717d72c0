package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	weirv1 "weir/proto/weir/v1"
)

// maxLaneRows bounds the lanes in a status, of up to 1,024.
const maxLaneRows = 20

// byImportance sorts lanes: those in trouble first, then those with more to
// send, then by number.
func byImportance(lanes []*weirv1.Lane) []*weirv1.Lane {
	sorted := slices.Clone(lanes)
	slices.SortFunc(sorted, func(a, b *weirv1.Lane) int {
		return cmp.Or(
			cmp.Compare(laneRank(a), laneRank(b)),
			cmp.Compare(b.GetPendingItems(), a.GetPendingItems()),
			cmp.Compare(a.GetId(), b.GetId()),
		)
	})
	return sorted
}

// laneRank is the lower the more a lane wants to be seen.
func laneRank(l *weirv1.Lane) int {
	switch {
	case l.GetState() == weirv1.LaneState_LANE_STATE_PARKED:
		return 0
	case l.GetState() == weirv1.LaneState_LANE_STATE_WAITING:
		return 1
	case l.GetQuarantinedItems() > 0:
		return 2
	case l.GetState() == weirv1.LaneState_LANE_STATE_IDLE:
		return 4
	default:
		return 3
	}
}

// isStuck reports whether a lane keeps data that does not go.
func isStuck(l *weirv1.Lane) bool { return laneRank(l) <= 2 }

// laneSummary counts lanes by their state.
func laneSummary(lanes []*weirv1.Lane) string {
	counts := make(map[weirv1.LaneState]int64)
	for _, l := range lanes {
		counts[l.GetState()]++
	}
	var parts []string
	for _, state := range []weirv1.LaneState{
		weirv1.LaneState_LANE_STATE_PARKED, weirv1.LaneState_LANE_STATE_WAITING, weirv1.LaneState_LANE_STATE_SENDING,
		weirv1.LaneState_LANE_STATE_IDLE, weirv1.LaneState_LANE_STATE_UNSPECIFIED,
	} {
		if n := counts[state]; n > 0 {
			name, _ := laneState(state)
			parts = append(parts, humanCount(n)+" "+name)
		}
	}
	return strings.Join(parts, ", ")
}

func laneRow(l *weirv1.Lane, now time.Time) []cell {
	state, color := laneState(l.GetState())
	size, oldest, refused := "", "", ""
	if l.GetPendingItems() > 0 {
		size, oldest = humanBytes(l.GetPendingBytes()), humanDuration(l.GetOldestAge().AsDuration())
	}
	if l.GetQuarantinedItems() > 0 {
		refused = humanCount(l.GetQuarantinedItems())
	}
	return []cell{
		{text: strconv.FormatUint(uint64(l.GetId()), 10)},
		{text: oneLine(l.GetProtocol(), maxName)},
		{text: oneLine(l.GetCredential(), maxName)},
		{text: oneLine(l.GetWorkspace(), maxName)},
		{text: oneLine(l.GetProject(), maxName)},
		{text: state, style: color},
		{text: humanCount(l.GetPendingItems())},
		{text: size},
		{text: oldest},
		{text: refused, style: red},
		{text: laneNote(l, now)},
	}
}

// laneNote says why a lane is not just sending.
func laneNote(l *weirv1.Lane, now time.Time) string {
	var parts []string
	if l.GetReason() != "" {
		parts = append(parts, oneLine(l.GetReason(), maxNote))
	}
	waits := l.GetState() == weirv1.LaneState_LANE_STATE_WAITING || l.GetState() == weirv1.LaneState_LANE_STATE_PARKED
	if waits && isSet(l.GetSince()) {
		parts = append(parts, "for "+humanDuration(now.Sub(l.GetSince().AsTime())))
	}
	if waits && isSet(l.GetNextAttempt()) {
		parts = append(parts, "next attempt "+inTime(now, l.GetNextAttempt()))
	}
	if waits && l.GetLastError() != "" {
		parts = append(parts, oneLine(l.GetLastError(), maxNote))
	}
	return strings.Join(parts, ", ")
}

func laneState(state weirv1.LaneState) (string, style) {
	switch state {
	case weirv1.LaneState_LANE_STATE_IDLE:
		return "idle", dim
	case weirv1.LaneState_LANE_STATE_SENDING:
		return "sending", green
	case weirv1.LaneState_LANE_STATE_WAITING:
		return "waiting", yellow
	case weirv1.LaneState_LANE_STATE_PARKED:
		return "parked", red
	case weirv1.LaneState_LANE_STATE_UNSPECIFIED:
	}
	return "unknown", plain
}
