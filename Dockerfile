FROM python:3.12-slim
WORKDIR /app
RUN useradd --create-home ragplat && mkdir var && chown ragplat var
COPY pyproject.toml constraints.txt README.md ./
COPY ragplat/__init__.py ragplat/__init__.py
RUN pip install --no-cache-dir --constraint constraints.txt --editable .
COPY . .
USER ragplat
EXPOSE 8000
CMD ["python", "-m", "uvicorn", "ragplat.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--lifespan", "off"]
