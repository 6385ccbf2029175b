"""Put a custom engine behind the gateway; ``cancel`` is set when the client disconnects."""

from providers_sync import Finish, OpenAICompatible
from providers_sync.gateway import serve


class Shouter:
    """Answers in capitals."""

    models = ["shouter"]

    def answer(self, messages, options, cancel):
        for word in messages[-1]["content"].split():
            yield f"{word.upper()} "
        yield Finish("stop")

    def close(self):
        pass


with serve(engine=Shouter()) as gateway:
    provider = OpenAICompatible("shouter", base_url=gateway.url("openai"))
    for event in provider.stream("good morning").events():
        print(event)
