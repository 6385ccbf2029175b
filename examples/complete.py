"""Wait for the complete answer to a conversation."""

from providers_sync import OpenAICompatible
from providers_sync.gateway import serve

conversation = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "What did I say first?"},
]

with serve(engine="echo") as gateway:
    provider = OpenAICompatible("echo", base_url=gateway.url("openai"))
    answer = provider.complete(conversation, temperature=0)

print(answer)
print(f"model {answer.model}, finish reason {answer.finish_reason}, {answer.usage}")
