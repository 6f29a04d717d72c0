// Command go sends one trace to weir over IngestStream and prints the ids that
// weir gave it. WEIR_GRPC is weir's address, LANGSMITH_API_KEY an optional key.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	weirv1 "weir/proto/weir/v1"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "go:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if key := os.Getenv("LANGSMITH_API_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-api-key", key)
	}
	addr := cmp.Or(os.Getenv("WEIR_GRPC"), "127.0.0.1:4317")
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("use address %s: %w", addr, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	stream, err := weirv1.NewIngestServiceClient(conn).IngestStream(ctx)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	if err := sendTrace(&session{stream: stream}); err != nil {
		return err
	}
	return stream.CloseSend()
}

// sendTrace sends a chain with a call of a model inside, then how they ended.
func sendTrace(s *session) error {
	root, err := s.send(create(&weirv1.Run{
		Name:      "answer-question",
		RunType:   "chain",
		StartTime: timestamppb.Now(),
		Inputs:    text(`{"question": "What does a weir do?"}`),
		Tags:      []string{"example", "go"},
	}))
	if err != nil {
		return err
	}
	// weir takes trace_id and dotted_order from the parent.
	llm, err := s.send(create(&weirv1.Run{
		ParentRunId: root[0].GetId(),
		Name:        "chat-model",
		RunType:     "llm",
		StartTime:   timestamppb.Now(),
		Inputs:      text(`{"messages": [{"role": "user", "content": "What does a weir do?"}]}`),
	}))
	if err != nil {
		return err
	}
	rest, err := s.send(
		update(&weirv1.Run{
			Id:      llm[0].GetId(),
			EndTime: timestamppb.Now(),
			Outputs: text(`{"role": "assistant", "content": "It holds back a river."}`),
		}),
		update(&weirv1.Run{
			Id:      root[0].GetId(),
			EndTime: timestamppb.Now(),
			Outputs: text(`{"answer": "It holds back a river."}`),
		}),
		&weirv1.Operation{Operation: &weirv1.Operation_Attachment{Attachment: &weirv1.Attachment{
			RunId:       root[0].GetId(),
			Name:        "notes",
			ContentType: "text/plain",
			Content:     []byte("A weir is a low dam.\n"),
		}}},
		&weirv1.Operation{Operation: &weirv1.Operation_Feedback{Feedback: &weirv1.Feedback{
			RunId: root[0].GetId(),
			Key:   "correctness",
			Score: new(1.0),
		}}},
	)
	if err != nil {
		return err
	}
	fmt.Printf("trace %s root %s llm %s feedback %s\n", root[0].GetTraceId(), root[0].GetId(), llm[0].GetId(), rest[3].GetId())
	return nil
}

// session sends requests one at a time. An application with much to send sends
// several ahead and tells the answers apart by their sequence.
type session struct {
	stream   grpc.BidiStreamingClient[weirv1.IngestStreamRequest, weirv1.IngestStreamResponse]
	sequence uint64
}

// send returns one result for each operation, or an error if any has one.
func (s *session) send(ops ...*weirv1.Operation) ([]*weirv1.ItemResult, error) {
	s.sequence++
	if err := s.stream.Send(&weirv1.IngestStreamRequest{Sequence: s.sequence, Operations: ops}); err != nil {
		// Why a stream has ended is what Recv says.
		_, err = s.stream.Recv()
		return nil, fmt.Errorf("send request %d: %w", s.sequence, err)
	}
	response, err := s.stream.Recv()
	if err != nil {
		return nil, fmt.Errorf("receive answer %d: %w", s.sequence, err)
	}
	if refusal := response.GetError(); refusal != nil {
		return nil, fmt.Errorf("request %d is refused: %v", s.sequence, refusal)
	}
	if got := response.GetSequence(); got != s.sequence {
		return nil, fmt.Errorf("answer %d to request %d", got, s.sequence)
	}
	if got := len(response.GetResults()); got != len(ops) {
		return nil, fmt.Errorf("%d results for %d operations", got, len(ops))
	}
	for _, result := range response.GetResults() {
		if refusal := result.GetError(); refusal != nil {
			return nil, fmt.Errorf("operation %d is refused: %v", result.GetIndex(), refusal)
		}
	}
	return response.GetResults(), nil
}

func create(run *weirv1.Run) *weirv1.Operation {
	return &weirv1.Operation{Operation: &weirv1.Operation_Create{Create: run}}
}

func update(run *weirv1.Run) *weirv1.Operation {
	return &weirv1.Operation{Operation: &weirv1.Operation_Update{Update: run}}
}

func text(json string) *weirv1.Json {
	return &weirv1.Json{Value: &weirv1.Json_Text{Text: []byte(json)}}
}
