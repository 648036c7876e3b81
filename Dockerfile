# edgekit with everything that makes and runs files on a CPU.
#
#     docker build -t edgekit .
#     docker run --rm -v "$PWD:/work" edgekit export net.py:make --to onnx,tflite -o build
FROM python:3.11-slim-bookworm
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir -c constraints.txt ".[host,report]" && rm -rf /src
RUN useradd --create-home edgekit && mkdir /work && chown edgekit /work
USER edgekit
WORKDIR /work
ENTRYPOINT ["edgekit"]
CMD ["--help"]
