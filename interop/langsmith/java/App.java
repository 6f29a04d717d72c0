import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Scope;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * An application that traces with OpenTelemetry's SDK and exporter for Java, set up for LangSmith
 * by its variables. It speaks as ../python/app.py does: names of scenarios on standard input, and
 * {"done": NAME} on standard output once a scenario is played and flushed.
 */
public final class App {
    private static final List<String> QUESTIONS = List.of("Wo bleibt mein Paket? 🙂", "", "long ".repeat(60_000));

    private App() {}

    /** Plays what standard input says. */
    public static void main(String[] args) throws IOException {
        OtlpHttpSpanExporter exporter = OtlpHttpSpanExporter.builder()
                .setEndpoint(System.getenv("LANGSMITH_ENDPOINT") + "/otel/v1/traces")
                .addHeader("x-api-key", System.getenv("LANGSMITH_API_KEY"))
                .addHeader("Langsmith-Project", System.getenv("LANGSMITH_PROJECT"))
                .setCompression("gzip")
                .build();
        SdkTracerProvider provider = SdkTracerProvider.builder()
                .setResource(Resource.create(Attributes.of(AttributeKey.stringKey("service.name"), "support-bot")))
                .addSpanProcessor(BatchSpanProcessor.builder(exporter).build())
                .build();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            if (!line.equals("spans")) {
                throw new IllegalArgumentException("App.java: what is \"" + line + "\"? Known is: spans");
            }
            for (String question : QUESTIONS) {
                answer(provider.get("support.bot", "1.4.2"), question);
            }
            if (!provider.forceFlush().join(60, TimeUnit.SECONDS).isSuccess()) {
                throw new IllegalStateException("App.java: the spans could not be sent");
            }
            System.out.println("{\"done\": \"spans\"}");
        }
        provider.shutdown().join(10, TimeUnit.SECONDS);
    }

    /** One answer is a chain of a retriever, models and a tool that fails. */
    private static void answer(Tracer tracer, String question) {
        Span root = tracer.spanBuilder("answer ticket " + question.length()).setSpanKind(SpanKind.SERVER).startSpan();
        try (Scope ignored = root.makeCurrent()) {
            root.setAttribute("langsmith.span.kind", "chain");
            root.setAttribute("gen_ai.prompt", question);
            for (int n = 0; n < 40; n++) {
                Span chat = tracer.spanBuilder("chat " + n).setSpanKind(SpanKind.CLIENT).startSpan();
                chat.setAttribute("langsmith.span.kind", "llm");
                chat.setAttribute("gen_ai.request.model", "gpt-4.1-mini");
                chat.setAttribute("gen_ai.usage.input_tokens", 12L + n);
                chat.setAttribute("gen_ai.request.temperature", 0.1 * n);
                chat.setAttribute(AttributeKey.stringArrayKey("gen_ai.response.finish_reasons"), List.of("stop", "長さ"));
                chat.addEvent("gen_ai.choice", Attributes.of(AttributeKey.longKey("index"), (long) n));
                chat.end();
            }
            Span tool = tracer.spanBuilder("lookup order").startSpan();
            tool.setAttribute("langsmith.span.kind", "tool");
            tool.setStatus(StatusCode.ERROR, "no order: “ошибка” 🚫");
            tool.end();
        } finally {
            root.end();
        }
    }
}
