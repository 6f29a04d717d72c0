package weir.examples;

import com.google.protobuf.ByteString;
import com.google.protobuf.Timestamp;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.time.Instant;
import java.util.List;
import java.util.concurrent.TimeUnit;
import weir.v1.Ingest.Attachment;
import weir.v1.Ingest.Feedback;
import weir.v1.Ingest.IngestRequest;
import weir.v1.Ingest.IngestResponse;
import weir.v1.Ingest.ItemResult;
import weir.v1.Ingest.Json;
import weir.v1.Ingest.Operation;
import weir.v1.Ingest.Run;

/**
 * Sends one trace to weir over Ingest and prints the ids that weir gave it. WEIR_GRPC is weir's
 * address, LANGSMITH_API_KEY an optional key.
 */
public final class Client {
  private static final long TIMEOUT_SECONDS = 20;

  /**
   * The method, as grpc-java's generator would declare it. That generator is a native program that
   * is not to be had for every platform; for a few methods one can do without.
   */
  private static final MethodDescriptor<IngestRequest, IngestResponse> INGEST =
      MethodDescriptor.<IngestRequest, IngestResponse>newBuilder()
          .setType(MethodDescriptor.MethodType.UNARY)
          .setFullMethodName(
              MethodDescriptor.generateFullMethodName("weir.v1.IngestService", "Ingest"))
          .setRequestMarshaller(ProtoUtils.marshaller(IngestRequest.getDefaultInstance()))
          .setResponseMarshaller(ProtoUtils.marshaller(IngestResponse.getDefaultInstance()))
          .build();

  private final Channel channel;

  private Client(Channel channel) {
    this.channel = channel;
  }

  /** Runs the example; whatever it throws makes the command fail. */
  public static void main(String[] args) throws InterruptedException {
    String address = env("WEIR_GRPC", "127.0.0.1:4317");
    ManagedChannel channel =
        Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    try {
      new Client(withKey(channel, env("LANGSMITH_API_KEY", ""))).sendTrace();
    } finally {
      channel.shutdownNow().awaitTermination(TIMEOUT_SECONDS, TimeUnit.SECONDS);
    }
  }

  /** Sends a chain with a call of a model inside, then how they ended. */
  private void sendTrace() {
    ItemResult root =
        send(
                create(
                    Run.newBuilder()
                        .setName("answer-question")
                        .setRunType("chain")
                        .setStartTime(now())
                        .setInputs(text("{\"question\": \"What does a weir do?\"}"))
                        .addTags("example")
                        .addTags("java")))
            .get(0);
    // weir takes trace_id and dotted_order from the parent.
    ItemResult llm =
        send(
                create(
                    Run.newBuilder()
                        .setParentRunId(root.getId())
                        .setName("chat-model")
                        .setRunType("llm")
                        .setStartTime(now())
                        .setInputs(
                            text(
                                """
                                {"messages": [{"role": "user", "content": "What does a weir do?"}]}
                                """))))
            .get(0);
    List<ItemResult> rest =
        send(
            update(
                Run.newBuilder()
                    .setId(llm.getId())
                    .setEndTime(now())
                    .setOutputs(
                        text(
                            """
                            {"role": "assistant", "content": "It holds back a river."}
                            """))),
            update(
                Run.newBuilder()
                    .setId(root.getId())
                    .setEndTime(now())
                    .setOutputs(text("{\"answer\": \"It holds back a river.\"}"))),
            Operation.newBuilder()
                .setAttachment(
                    Attachment.newBuilder()
                        .setRunId(root.getId())
                        .setName("notes")
                        .setContentType("text/plain")
                        .setContent(ByteString.copyFromUtf8("A weir is a low dam.\n")))
                .build(),
            Operation.newBuilder()
                .setFeedback(
                    Feedback.newBuilder()
                        .setRunId(root.getId())
                        .setKey("correctness")
                        .setScore(1.0))
                .build());
    System.out.printf(
        "trace %s root %s llm %s feedback %s%n",
        root.getTraceId(), root.getId(), llm.getId(), rest.get(3).getId());
  }

  /** Returns one result for each operation, or throws if any has an error. */
  private List<ItemResult> send(Operation... operations) {
    IngestResponse response =
        ClientCalls.blockingUnaryCall(
            channel,
            INGEST,
            CallOptions.DEFAULT.withDeadlineAfter(TIMEOUT_SECONDS, TimeUnit.SECONDS),
            IngestRequest.newBuilder().addAllOperations(List.of(operations)).build());
    List<ItemResult> results = response.getResultsList();
    if (results.size() != operations.length) {
      throw new IllegalStateException(
          results.size() + " results for " + operations.length + " operations");
    }
    for (ItemResult result : results) {
      if (result.hasError()) {
        throw new IllegalStateException(
            "operation " + result.getIndex() + " is refused: " + result.getError());
      }
    }
    return results;
  }

  private static Channel withKey(Channel channel, String key) {
    if (key.isEmpty()) {
      return channel;
    }
    Metadata metadata = new Metadata();
    metadata.put(Metadata.Key.of("x-api-key", Metadata.ASCII_STRING_MARSHALLER), key);
    return ClientInterceptors.intercept(
        channel, MetadataUtils.newAttachHeadersInterceptor(metadata));
  }

  private static Operation create(Run.Builder run) {
    return Operation.newBuilder().setCreate(run).build();
  }

  private static Operation update(Run.Builder run) {
    return Operation.newBuilder().setUpdate(run).build();
  }

  private static Json text(String json) {
    return Json.newBuilder().setText(ByteString.copyFromUtf8(json)).build();
  }

  private static Timestamp now() {
    Instant now = Instant.now();
    return Timestamp.newBuilder().setSeconds(now.getEpochSecond()).setNanos(now.getNano()).build();
  }

  private static String env(String name, String otherwise) {
    String value = System.getenv(name);
    return value == null || value.isEmpty() ? otherwise : value;
  }
}
