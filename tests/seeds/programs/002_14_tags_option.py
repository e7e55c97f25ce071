@task(name="hello-task", tags=["test"])
def my_task():
    print("Hello, I'm a task")
